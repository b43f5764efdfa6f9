-- The journal's schema: the whole truth. migrations.py builds exactly this, and a test proves it.
--
-- Times are milliseconds since 1970 in UTC; `day` is such a time divided by 86 400 000. Texts are never
-- null where "" says the same. Lists and objects are JSON. A message is named by its id (model/ids.py: in
-- time order), a recipient by (message, n), an attempt by (message, n, no): its number orders a
-- recipient's attempts. Keys and indexes grow in time order; indexes of open work are partial, so that
-- settled mail costs nothing but its rows.
--
-- A query uses a partial index only if it repeats the index's own `where` word for word.

-- ── mail ────────────────────────────────────────────────────────────────────────────────────────────

-- A message as it was taken. This row is the birth of its recipients: it needs no history of its own.
create table message (
    id integer primary key,
    received_at integer not null,
    day integer not null,
    key text not null,                -- the Message-ID as it is compared (model.message.message_key)
    message_id text not null,         -- as found, with its angle brackets
    sender text not null,             -- reverse-path without brackets, '' when null
    parameters text not null,         -- of MAIL, verbatim, a JSON list
    subject text not null,
    intake text not null,             -- smtp, dsn (made by us), …
    peer text not null,
    helo text not null,
    protocol text not null,
    size integer not null check (size >= 0),
    digest blob not null,             -- SHA-256 of the bytes
    body_file text,                   -- name in the bodies folder, when it is not in `body`
    body_kept integer not null default 1 check (body_kept in (0, 1))
) strict;
create index message_by_key on message (day, key);
create index message_by_time on message (received_at);

-- The bytes of a message of up to 128 KiB.
create table body (
    message integer primary key references message (id),
    octets blob not null
) strict;

-- Where each recipient stands. Moved only by compare-and-set, with a row in `history`.
create table recipient (
    message integer not null references message (id),
    n integer not null check (n >= 0),
    address text not null,
    parameters text not null,         -- of RCPT, verbatim, a JSON list
    destination text not null,
    route text not null,              -- of its next attempt
    state text not null check (state in (
        'journaled', 'sending', 'retrying', 'in_doubt', 'accepted', 'pending', 'deferred', 'expired',
        'held', 'delivered', 'expanded', 'filtered', 'failed', 'cancelled')),
    below text check (below in (      -- the state under a hold
        'journaled', 'retrying', 'in_doubt', 'accepted', 'pending', 'deferred', 'expired')),
    since integer not null,           -- when it became so: the evidence's own time, else ours
    cause text check (cause in (
        'tls', 'connection', 'blocklist', 'throttle', 'size', 'policy', 'recipient', 'mailbox',
        'expired', 'content', 'other')),
    scope text check (scope in ('recipient', 'message', 'route', 'destination')),
    mend text check (mend in ('gate', 'time', 'person', 'never')),
    holder text not null check (holder in ('us', 'relay', 'far', 'nobody')),
    deadline integer,                 -- when it bounces, or when we give up
    due_at integer,                   -- when its next attempt is due; null: none is
    lane integer not null default 0 check (lane in (0, 1)),    -- 0 new mail and retries, 1 jobs
    job integer references job (id),  -- the job that made it due
    attempt integer not null default 0 check (attempt >= 0),   -- the last number used
    failures integer not null default 0,                       -- attempts in a row without a 250
    derived_from integer,             -- a group's member: the group's n
    again_of integer,                 -- sent anew beside this n (redirect, --include-delivered)
    notice text check (notice in ('failed', 'relayed')),       -- the DSN its sender is owed
    primary key (message, n),
    check ((state = 'held') = (below is not null)),
    check (state <> 'sending' or due_at is null),
    check (due_at is null
        or state not in ('held', 'delivered', 'expanded', 'filtered', 'failed', 'cancelled'))
) strict, without rowid;
create index recipient_due on recipient (route, lane, due_at) where due_at is not null;
create index recipient_journaled on recipient (route, deadline) where state = 'journaled';
create index recipient_trouble on recipient (destination, state, deadline)
    where state in ('retrying', 'in_doubt', 'pending', 'deferred', 'expired');
create index recipient_accepted on recipient (destination, since) where state = 'accepted';
create index recipient_notice on recipient (message) where notice is not null;
create index recipient_held on recipient (destination) where state = 'held';

-- ── attempts ────────────────────────────────────────────────────────────────────────────────────────

-- One SMTP transaction: the recipients of a message that share a route and an attempt number.
-- Open (ended_at null) from before the socket is touched until its outcome is known.
create table offer (
    id integer primary key,
    message integer not null references message (id),
    no integer not null check (no >= 1),
    route text not null,
    kind text not null check (kind in ('handoff', 'retry', 'resubmission')),
    job integer references job (id),
    begun_at integer not null,
    dot_at integer,                   -- when the final dot was written
    ended_at integer,
    day integer,                      -- of ended_at
    next_key text,                    -- the next hop's own id for the mail
    remote text not null default '',
    tls text not null default '',     -- version and cipher, '' in clear
    unique (message, id)
) strict;
create index offer_open on offer (id) where ended_at is null;
create index offer_by_end on offer (ended_at) where ended_at is not null;
create index offer_by_next_key on offer (day, next_key) where next_key is not null;

-- What one recipient got from an offer. This row is the move to `sending`: no history row for that.
create table attempt (
    message integer not null,
    n integer not null,
    no integer not null check (no >= 1),
    offer integer not null,
    ended_at integer,
    event text,                       -- the reply_… event, attempt_orphaned, …
    accepted integer not null default 0 check (accepted in (0, 1)),  -- answered 250
    stage text not null default '',   -- the SMTP step at which it stopped (model.attempt.Stage)
    code integer,
    enhanced text not null default '',
    reply text not null default '',
    cause text,
    scope text,
    mend text,
    primary key (message, n, no),
    foreign key (message, n) references recipient (message, n),
    foreign key (message, offer) references offer (message, id)
) strict, without rowid;
create unique index attempt_open on attempt (message, n) where ended_at is null;
create index attempt_fault on attempt (ended_at) where scope in ('route', 'destination');

-- The far side's network message id of an offer. Once bound it stays.
create table binding (
    offer integer not null references offer (id),
    network_message_id text not null,
    day integer not null,
    primary key (offer, network_message_id)
) strict, without rowid;
create index binding_by_id on binding (day, network_message_id);

-- Every move but birth and `sending`, with conflicts (from = to) and what else happened to a recipient.
create table history (
    message integer not null,
    n integer not null,
    seq integer not null,
    at integer not null,              -- when it was written
    event text not null,
    from_state text not null,
    to_state text not null,
    conflict integer not null default 0 check (conflict in (0, 1)),
    why text not null,
    attempt integer not null,         -- the recipient's attempt number then
    evidence integer,                 -- the row that caused it
    primary key (message, n, seq),
    foreign key (message, n) references recipient (message, n)
) strict, without rowid;

-- ── evidence ────────────────────────────────────────────────────────────────────────────────────────

create table evidence (
    id integer primary key,
    source text not null,
    digest blob not null,             -- over what it says, not where it stood; begins with when
    day integer not null,             -- of received_at, else observed_at, else read_at
    status text not null,
    recipient text not null,
    original_recipient text not null,
    group_address text not null,
    observed_at integer,
    received_at integer,
    key text not null,
    message_id text not null,
    network_message_id text not null,
    envelope_id text not null,
    queue_id text not null,
    sender text not null,
    subject text not null,
    size integer,
    code integer,
    enhanced text not null,
    text text not null,
    remote text not null,
    cause text,
    scope text,
    mend text,
    file text not null,
    place text not null,
    raw text not null,
    read_at integer not null,
    match text not null check (match in ('matched', 'ambiguous', 'unmatched')),
    why text not null,                -- by which key it was matched, or why not
    message integer,                  -- whose it is
    n integer,
    no integer,                       -- the attempt it belongs to; null: to none
    tries integer not null default 0,
    foreign key (message, n) references recipient (message, n),
    check ((message is null) = (n is null))
) strict;
create unique index evidence_once on evidence (source, digest);
create index evidence_of on evidence (message, n) where message is not null;
create index evidence_unowned on evidence (day, key, message) where message is null;
create index evidence_by_reading on evidence (read_at);
create index evidence_fault on evidence (read_at)
    where scope in ('route', 'destination') and message is not null;
create index evidence_delivered on evidence (read_at) where status = 'delivered' and message is not null;

-- Ambiguous evidence: the candidates it moved (design rule 8).
create table evidence_link (
    message integer not null,
    n integer not null,
    evidence integer not null references evidence (id),
    no integer,                       -- the attempt it would belong to; null: to none
    primary key (message, n, evidence),
    foreign key (message, n) references recipient (message, n)
) strict, without rowid;
create index evidence_link_by_evidence on evidence_link (evidence);

-- A source that answered for everything in a span, reading by reading.
create table coverage (
    id integer primary key,
    source text not null,
    since integer not null,
    until integer not null,
    read_at integer not null,
    check (since <= until)
) strict;
create index coverage_by_until on coverage (until);

-- For each such source the span without a gap that reaches its newest reading.
create table trace (
    source text primary key,
    since integer not null,
    until integer not null,
    read_at integer not null
) strict, without rowid;

-- How far a source was read; saved in the transaction that stored what was read.
create table cursor (
    source text not null,
    name text not null,
    position text not null,
    at integer not null,
    primary key (source, name)
) strict, without rowid;

-- What was reported of a destination's servers, which is about no mail.
create table report (
    id integer primary key,
    digest blob not null,             -- over what it says
    destination text not null,        -- '': of none of ours
    is_fault integer not null check (is_fault in (0, 1)),
    since integer not null,           -- the span it is about
    until integer not null,
    read_at integer not null,
    cause text,
    text text not null,
    remote text not null,
    file text not null,
    place text not null,
    unique (digest, destination)
) strict;
create index report_fault on report (destination, read_at) where is_fault = 1;
create index report_by_reading on report (read_at);

create table unreadable (
    id integer primary key,
    file text not null,
    place text not null,
    reason text not null,
    at integer not null,
    unique (file, place)
) strict;

-- ── recovery ────────────────────────────────────────────────────────────────────────────────────────

-- What the config said of a destination when the service last started (`current` 0: no longer there).
create table destination (
    name text primary key,
    stuck_after integer not null,
    deadline_margin integer not null,
    expires_after integer not null,
    trace_stale integer not null,
    route text not null,
    resubmit_route text not null,
    data text not null default '{}',
    current integer not null default 1 check (current in (0, 1))
) strict, without rowid;

create table incident (
    id integer primary key,
    destination text not null,
    route text not null,
    cause text not null,
    opened_at integer not null,
    closed_at integer,
    state text not null check (state in ('open', 'recovering', 'closed')),
    fault_from integer not null,
    fault_to integer,                 -- null: the fault is still there
    fixed_at integer,
    report text not null default '',  -- JSON, kept at closing
    check ((state = 'closed') = (closed_at is not null))
) strict;
create index incident_by_destination on incident (destination, fault_from);
create index incident_open on incident (id) where state <> 'closed';

-- Who was caught in an incident. `outcome` is kept when the message itself is pruned.
create table incident_recipient (
    incident integer not null references incident (id),
    message integer not null,
    n integer not null,
    joined_at integer not null,
    outcome text check (outcome in ('recovered', 'failed', 'unproven', 'unknown')),
    primary key (incident, message, n)
) strict, without rowid;
create index incident_recipient_of on incident_recipient (message, n);

create table gate (
    name text primary key,            -- destination:<name> or route:<name>
    state text not null check (state in ('open', 'closed', 'testing')),
    version integer not null check (version >= 1),
    since integer not null,           -- when it took this state
    reasons text not null,            -- a JSON list
    incident integer references incident (id),
    data text not null                -- the gate rules' own memory, JSON
) strict, without rowid;

create table look (
    id integer primary key,
    target text not null,             -- the gate it was for
    at integer not null,
    health text not null check (health in ('healthy', 'faulty', 'unknown')),
    codes text not null,              -- a JSON list
    fingerprint text not null,
    verdict text not null,            -- the object of `probe --json`
    days_left integer
) strict;
create index look_of on look (target, at);

create table job (
    id integer primary key,
    state text not null check (state in ('waiting', 'running', 'done', 'cancelled', 'failed')),
    asked_at integer not null,
    asked_by text not null,
    reason text not null,
    filter text not null,             -- JSON
    options text not null,            -- JSON
    destination text not null,
    incident integer references incident (id),
    gate text not null,
    stage text not null default '{}', -- the pace rules' own memory, JSON
    ended_at integer
) strict;
create index job_open on job (id) where state in ('waiting', 'running');

-- One recipient of a job: waiting, released (made due), sent (answered 250), proved (delivered), refused,
-- skipped (settled or moved before its turn), lost (in doubt). Kept when the message is pruned.
create table job_item (
    job integer not null references job (id),
    message integer not null,
    n integer not null,
    state text not null check (state in (
        'waiting', 'released', 'sent', 'proved', 'refused', 'skipped', 'lost')),
    no integer,                       -- the attempt it led to
    released_at integer,
    primary key (job, message, n)
) strict, without rowid;
create unique index job_item_unfinished on job_item (message, n) where state in ('waiting', 'released');
create index job_item_sent on job_item (message, n) where state in ('sent', 'lost');

-- ── the rest ────────────────────────────────────────────────────────────────────────────────────────

create table audit (
    id integer primary key,
    at integer not null,
    who text not null,
    action text not null,
    what text not null,
    reason text not null
) strict;

create table secret (
    name text primary key,
    value blob not null
) strict, without rowid;

-- ── views ───────────────────────────────────────────────────────────────────────────────────────────

-- Who is stuck, from when (design, section 3): the one definition, for list, metrics and alerts.
-- Stuck at :now means `stuck_at <= :now`. `cause` is the one to be shown. At most one row a recipient.
--
--   1. pending, deferred, retrying, in_doubt, expired: at once for a cause of tls or connection, else
--      stuck_after later;
--   2. journaled behind a route's gate that is not open, for stuck_after: with the gate's cause;
--   3. accepted and suspect:
--      a. taken inside a fault window of its destination, with no live trace for that time;
--      b. its deadline less than deadline_margin away, and a trace that answered for its time, and was
--         not stale then, does not know it.
create view stuck as
select
    r.message, r.n, r.address, r.destination, r.route, r.state, r.since, r.cause, r.scope, r.mend,
    r.holder, r.deadline, r.attempt,
    case when r.cause in ('tls', 'connection') then r.since
         else r.since + coalesce(d.stuck_after, 900000) end as stuck_at
from recipient r
left join destination d on d.name = r.destination
where r.state in ('retrying', 'in_doubt', 'pending', 'deferred', 'expired')
union all
select
    r.message, r.n, r.address, r.destination, r.route, r.state, r.since,
    coalesce(i.cause, 'connection'), 'route', 'gate',
    r.holder, r.deadline, r.attempt,
    max(r.since, g.since) + coalesce(d.stuck_after, 900000)
from gate g
join recipient r on r.route = substr(g.name, 7)
left join incident i on i.id = g.incident
left join destination d on d.name = r.destination
where g.name like 'route:%'
    and g.state <> 'open'
    and r.state = 'journaled'
union all
select
    r.message, r.n, r.address, r.destination, r.route, r.state, r.since, s.cause, null, null,
    r.holder, r.deadline, r.attempt,
    s.stuck_at
from (
    select message, n, min(stuck_at) as stuck_at, max(cause) as cause
    from (
        select
            r.message, r.n, i.cause,
            max(r.since, i.opened_at, coalesce((
                select max(t.until) + 1 from trace t where t.since <= r.since
            ) + coalesce(d.trace_stale, 3600000), 0)) as stuck_at
        from incident i
        cross join recipient r on r.destination = i.destination
            and r.since between i.fault_from and coalesce(i.fault_to, 9223372036854775807)
        left join destination d on d.name = r.destination
        where r.state = 'accepted'
        union all
        select r.message, r.n, null, r.deadline - d.deadline_margin
        from trace t
        cross join destination d
        cross join recipient r on r.destination = d.name
            and r.since between t.since and t.until
        where r.state = 'accepted'
            and r.deadline - d.deadline_margin - d.trace_stale <= t.until
            and not exists (
                select 1 from evidence e
                where e.message = r.message and e.n = r.n and e.no = r.attempt
                    and e.source in ('trace_csv', 'trace_graph', 'exchange_tracking_log'))
    )
    group by message, n
) s
join recipient r on r.message = s.message and r.n = s.n;

-- A job's counts, in recipients.
create view job_count as
select
    job,
    count(*) as recipients,
    sum(state in ('sent', 'proved')) as accepted,
    sum(state = 'proved') as delivered,
    sum(state = 'refused') as refused,
    sum(state = 'skipped') as skipped,
    sum(state in ('waiting', 'released')) as unfinished
from job_item
group by job;

-- An incident's counts, in recipients: `stuck` is all it caught = recovered + failed + unproven + unknown.
-- Unproven: the next hop took it and nothing was heard since. Unknown: still open.
-- Duplicates: delivered under two network message ids ("taken twice").
create view incident_count as
select
    incident,
    count(*) as stuck,
    sum(outcome = 'recovered') as recovered,
    sum(outcome = 'failed') as failed,
    sum(outcome = 'unproven') as unproven,
    sum(outcome = 'unknown') as unknown,
    sum(taken > 1) as duplicates
from (
    select
        m.incident,
        coalesce(m.outcome, case
            when r.state in ('delivered', 'expanded') then 'recovered'
            when r.state in ('failed', 'filtered', 'cancelled') then 'failed'
            when r.state = 'accepted' then 'unproven'
            else 'unknown' end) as outcome,
        (select count(distinct e.network_message_id) from evidence e
         where e.message = m.message and e.n = m.n and e.status = 'delivered'
             and e.network_message_id <> '') as taken
    from incident_recipient m
    left join recipient r on r.message = m.message and r.n = m.n
)
group by incident;
