"""What the machine gives: clock, our own entropy, files, facts about the machine.

Nothing here draws from the program's random streams or changes its process state.
"""
