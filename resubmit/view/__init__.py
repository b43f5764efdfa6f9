"""Rows as the objects of design 6.1: once for `--json`, the pages and the tables.

Fields are only ever added. Times are RFC 3339 in UTC; what is not known is null. Nothing here looks at a
clock or a disk.
"""
