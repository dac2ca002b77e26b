"""The service: questions answered over HTTP by a process that keeps models and connections warm.

May import flows' tasks, blocks, the local stack's endpoints and the environment; the command line imports it.
"""
