"""The command line: a file a command group, each imported only when its command is run.

main      finds the command, runs it, and is the one place where errors become a line and an exit code
commands  the list of commands: which module has it, and its one-line summary
filters   the filters of design 6.1, the same in every command
output    what goes to stdout and stderr: JSON, tables, notes
table     columns that fit, wide characters counted, control characters taken out
ask       changing commands: the request to the service, or its foreground stand-in
"""
