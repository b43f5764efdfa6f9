"""What read.py is made of: a file a group of questions."""
