"""A second reader of the Portcullis recording format, written from recording/FORMAT.md alone.

Numbers of sections in comments are those of that page.
"""
