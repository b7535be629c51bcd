"""Prints how many microseconds after the end of a switch program the new system was proved.

The argument is the unit that ran the switch program; stdin is the journal, as `short-unix`.
"""

import sys

unit = sys.argv[1]
ended = proved = None
for line in sys.stdin:
    time = line.split(" ", 1)[0]
    if ": finished switching to system configuration" in line:
        ended, proved = float(time), None
    elif ended and not proved and "from=confirming to=committing" in line:
        proved = float(time)
if ended is None or proved is None:
    sys.exit(f"the journal does not say when {unit} ended and its system was proved")
print(round((proved - ended) * 1_000_000))
