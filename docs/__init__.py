"""The pages for people, and `docs.generate`, which writes those that are drawn from the code."""
