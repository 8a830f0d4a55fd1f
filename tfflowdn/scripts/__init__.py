"""The commands; `NAME --help` lists the flags of a command.

A command's module imports TensorFlow only when its work begins: it says `import
tfflowdn` and names the rest by attribute, which the package imports at first use.
"""
