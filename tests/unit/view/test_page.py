"""The report as a page: whole, alone, and safe to open."""

from __future__ import annotations

from html.parser import HTMLParser

from resubmit.view.page import incident_page

REPORT = {
    "id": 3, "destination": "hybrid", "route": "", "cause": "tls", "opened_at": "2026-11-24T02:00:00.000Z",
    "closed_at": None, "state": "recovering", "fault_from": "2026-11-24T01:58:00.000Z", "fault_to": None,
    "fixed_at": None, "stuck": 2, "recovered": 1, "failed": 0, "unproven": 0, "unknown": 1, "duplicates": 0,
    "false_ndrs": [{"sender": "<img src=x>@a", "recipients": 1, "at": "2026-11-25T02:00:00.000Z"}],
}  # fmt: skip
WHO = {
    "id": "1N3QK5Z8G4000", "address": "ann@contoso.com", "state": "deferred", "cause": None,
    "since": "2026-11-24T02:00:00.000Z", "attempts": 2, "last_reply": "450 <script>alert(1)</script> & co",
}  # fmt: skip


class Read(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_is_whole_and_says_what_the_report_says() -> None:
    page = Read("\n".join(incident_page(REPORT, [WHO], "2026-11-24T03:00:00.000Z")))

    assert page.open == []
    assert "Incident 3: tls at destination hybrid" in page.words
    assert "as of 2026-11-24 03:00:00 UTC" in page.words
    assert "ann@contoso.com" in page.words


def test_nothing_from_mail_becomes_markup_and_nothing_is_fetched() -> None:
    text = "\n".join(incident_page(REPORT, [WHO], "2026-11-24T03:00:00.000Z"))
    page = Read(text)

    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert "450 <script>alert(1)</script> & co" in page.words
    assert "<img src=x>@a" in page.words
    assert "http" not in text
