"""Sandbox for programs that a policy writes: nothing of them runs anywhere else, and no verdict comes from them.

Each program gets a process of its own, without network, files or other processes, with limits on time and memory. It is
sent one call at a time and returns plain values; the parent has the tests and compares. docs/code_tasks.md says what
this guarantees, and what not.
"""
