"""The commands; `python -m tfflowdn.scripts.NAME --help` tells their flags."""
