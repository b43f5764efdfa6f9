"""The string that threads the rooms: a loop a file. It waits, orders and writes, and decides nothing.

    accept    from an intake to the journal
    deliver   what is due goes out
    observe   evidence comes in
    follow    logs are read as they grow
    trace     Graph's message trace is asked
    watch     destinations are looked at
    recover   gates, incidents and jobs
    nudge     the relay beside us is told to try again
    obey      what people ask for
    tidy      retention, notices, floors
    service   start, readiness, orderly stop

Only `recover` moves gates, incidents and jobs; the others write facts and wake it. Only `deliver` sends.
"""
