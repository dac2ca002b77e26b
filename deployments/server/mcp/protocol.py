"""The protocol's server: it lists tools and resources, calls them, and tells what went wrong in a sentence.

It is the SDK's low-level server. The SDK's high-level one ignores unknown arguments, tells wrong ones in pydantic's
words, and sets up logging for the whole process.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from mcp_types import Tool as ListedTool
from pydantic import ValidationError
from starlette.requests import Request

from deployments.server.errors import told
from deployments.server.mcp import resources
from deployments.server.mcp.about import about
from deployments.server.mcp.tools import TOOLS, Call, Tool, own_default
from deployments.server.middleware import request_id
from deployments.server.replies import dumped
from tasks import metrics
from tasks.errors import LockstepError
from tasks.sanitize import hidden, visible

logger = logging.getLogger(__name__)
Context = ServerRequestContext[Any, Request]
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
JSON = "application/json"


def protocol_server() -> Server[Any]:
    """Return the server."""
    return Server(
        **about(),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


def call_of(context: Context) -> Call:
    """Return a call as the tools take it."""
    claims = 0

    async def tell(text: str) -> None:
        nonlocal claims
        claims += 1
        await context.session.report_progress(claims, None, text)

    assert context.request is not None, "a call comes with an HTTP request"
    return Call(context.request, tell)


async def list_tools(context: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
    """List the tools that the caller's key allows."""
    call = call_of(context)
    names = [name for name in await call.pipelines.names() if call.caller.sees(name)]
    default = own_default(call.caller, call.pipelines)
    allowed = [tool for tool in TOOLS.values() if call.caller.key is None or call.caller.key.may(tool.right)]
    return ListToolsResult(tools=[listed(tool, names, default) for tool in allowed])


def listed(tool: Tool, names: list[str], default: str) -> ListedTool:
    """Return a tool as it is listed: an assistant learns from it which pipelines there are."""
    takes = tool.takes.model_json_schema()
    if "pipeline" in takes["properties"]:
        takes["properties"]["pipeline"]["description"] = f"One of {', '.join(names)}. Left out: {default}."
    return ListedTool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=takes,
        output_schema=tool.returns.model_json_schema(mode="serialization"),
        annotations=READ_ONLY,
    )


async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
    """Call a tool, and count how long it took. What goes wrong is a result that says what to do."""
    tool, began, outcome = TOOLS.get(params.name), time.monotonic(), "failed"
    if tool is None:
        return failure(f"there is no tool '{params.name[:100]}'. The tools are {', '.join(TOOLS)}.")
    try:
        call = call_of(context)
        result = (await tool.work(call, tool.takes.model_validate(params.arguments or {}))).model_dump(mode="json")
        outcome = "ok"
        text = dumped(result)
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=result)
    except ValidationError as error:
        outcome = "refused"
        return failure(invalid(tool.name, error))
    except LockstepError as error:
        outcome = "refused" if told(error)[0] < 500 else "failed"
        return failure(str(error))
    except Exception as error:  # noqa: BLE001 - the last resort of a tool: the log has the trace
        return failure(unexpected(context, error))
    finally:
        metrics.MCP_TOOL_SECONDS.labels(tool.name, outcome).observe(time.monotonic() - began)


def invalid(name: str, error: ValidationError) -> str:
    """Return what is wrong with the first wrong argument."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "arguments"
    if first["type"] == "extra_forbidden":
        return f"{name} has no argument '{place[:100]}'. Its arguments are {', '.join(TOOLS[name].takes.model_fields)}."
    return f"the argument '{place[:100]}' of {name} is wrong: {first['msg'][:300]}."


def unexpected(context: Context, error: Exception) -> str:
    """Log an error that is none of ours, and return where its trace is."""
    assert context.request is not None
    about_it = request_id(context.request)
    logger.error("request %s failed", about_it, exc_info=error)
    return f"unexpected: {type(error).__name__}. The service's log has the trace under {about_it}."


def failure(message: str) -> CallToolResult:
    """Return the result of a call that failed."""
    return CallToolResult(content=[TextContent(type="text", text=visible(hidden(message)))], is_error=True)


async def list_resources(context: Context, _params: PaginatedRequestParams | None) -> ListResourcesResult:
    """List the state and the quarantine of each pipeline that the caller's key covers."""
    call = call_of(context)
    if call.caller.key and not call.caller.key.may("read"):
        return ListResourcesResult(resources=[])
    found = [Resource(uri=resources.QUARANTINE, name="quarantine", mime_type=JSON)]
    for name in filter(call.caller.sees, await call.pipelines.names()):
        state, quarantine = (one.format(name=name) for one in (resources.STATE_OF, resources.QUARANTINE_OF))
        found.append(Resource(uri=state, name=f"state of {name}", mime_type=JSON))
        found.append(Resource(uri=quarantine, name=f"quarantine of {name}", mime_type=JSON))
    return ListResourcesResult(resources=found)


async def list_templates(_context: Context, _params: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
    """List how the addresses of resources are made."""
    return ListResourceTemplatesResult(
        resource_templates=[
            ResourceTemplate(
                uri_template=resources.STATE_OF,
                name="state",
                description="The live generation of a pipeline, what it holds, and when it was last synced.",
                mime_type=JSON,
            ),
            ResourceTemplate(
                uri_template=resources.QUARANTINE_OF,
                name="quarantine",
                description="The objects of a pipeline that cannot be indexed, and why.",
                mime_type=JSON,
            ),
        ]
    )


async def read_resource(context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    """Return a resource as JSON. Raises ``MCPError`` with a sentence that says what to do."""
    call, uri = call_of(context), str(params.uri)
    try:
        found = await resources.read(uri, call.caller, call.pipelines)
    except LockstepError as error:
        code = INVALID_PARAMS if told(error)[0] < 500 else INTERNAL_ERROR
        raise MCPError(code=code, message=visible(hidden(str(error))), data={"uri": uri}) from error
    except Exception as error:
        raise MCPError(code=INTERNAL_ERROR, message=unexpected(context, error), data={"uri": uri}) from error
    text = dumped(found)
    return ReadResourceResult(contents=[TextResourceContents(uri=params.uri, text=text, mime_type=JSON)])
