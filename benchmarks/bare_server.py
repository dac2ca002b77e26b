"""The bare script behind HTTP: what any service over the same model and Milvus has to pay. For benchmarks.serve.

    python -m benchmarks.bare_server PORT MILVUS_URI COLLECTION MODE

One route of FastAPI under uvicorn, which embeds a question and searches, in a thread. Nothing else: no keys, no ledger,
no generations, no records.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from benchmarks.serve import bare


def app(uri: str, collection: str, mode: str) -> FastAPI:
    """Return an application with one route."""
    ask, made = bare(uri, collection, mode, together=True), FastAPI()

    @made.post("/search")
    async def search(request: Request) -> JSONResponse:
        asked: dict[str, Any] = await request.json()
        found: Any = await run_in_threadpool(ask, asked["question"])
        return JSONResponse([{"id": row["id"], "score": row["distance"], **row["entity"]} for row in found[0]])

    return made


if __name__ == "__main__":
    port, *rest = sys.argv[1:]
    uvicorn.run(app(*rest), host="127.0.0.1", port=int(port), http="h11", log_level="warning", access_log=False)
