"""What runs inside a sandboxed process. Python runs this folder as a script, so its files import one another by file
name, and nothing of the project.
"""
