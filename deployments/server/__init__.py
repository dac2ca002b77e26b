"""The service: questions answered over HTTP by a process that keeps models and connections warm.

    run ▶ app ▶ middleware ▶ native, openai/, mcp/, page/ ▶ answering ▶ pipelines
                                │
                                ├─ access/         who may ask, how often, and what a signed link opens
                                ├─ records/        what is remembered of answers, and told to Prefect
                                └─ observability/  health, the state of the index, metrics, traces

May import flows' tasks, blocks, the local stack's endpoints and the environment; the command line imports it.
"""
