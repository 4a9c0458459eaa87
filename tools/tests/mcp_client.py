"""The official MCP client asks the stack of a demo everything that an agent can.

    mcp_client.py stdio PROGRAM      starts `PROGRAM mcp`, which finds the stack by GRIDCTL_HOME
    mcp_client.py http URL           asks `serve` at URL

With --transcript it prints the way from "what failed in the last hour" to the span instead.
"""

import asyncio
import json
import os
import sys

from mcp import Client, MCPError, StdioServerParameters

BYTES_MAX = 4096
TOOLS = ["search_logs", "list_traces", "get_trace", "tool_calls", "usage", "losses", "inventory"]


def server(how, where):
    if how == "http":
        return where
    return StdioServerParameters(command=where, args=["mcp"], env=dict(os.environ))


async def ask(client, tool, arguments):
    """The text and the structured content of an answer, which the client has checked against the tool's schema."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, (tool, arguments, result)
    size = len(result.model_dump_json(by_alias=True, exclude_none=True).encode())
    assert size <= BYTES_MAX, (tool, arguments, size)
    return result.content[0].text, result.structured_content


async def everything(client):
    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == TOOLS, tools
    for tool in tools:
        assert tool.annotations.read_only_hint and tool.output_schema and tool.description, tool

    text, inventory = await ask(client, "inventory", {})
    assert inventory["stacks"] == 1 and "«github»" in text, text
    _, calls = await ask(client, "tool_calls", {"errors": True, "since": "1h", "list": "calls", "limit": 3})
    failed = calls["items"][0]
    assert calls["failed"] > 0 and failed["failed"] and "denied" in failed["untrusted"]["reason"], failed
    text, trace = await ask(client, "get_trace", {"trace": failed["trace"]})
    assert trace["failed"] >= 1 and "Why: span" in text, text
    whole, span = await ask(client, "get_trace", {"trace": failed["trace"], "span": trace["reason"]["span"]})
    assert "next_offset" in span or json.loads(span["untrusted"]), whole
    _, logs = await ask(client, "search_logs", {"trace": failed["trace"], "level": "error"})
    assert logs["matched"] == 1 and logs["records"][0]["trace"] == failed["trace"], logs
    _, traces = await ask(client, "list_traces", {"errors": True, "limit": 2})
    assert len(traces["traces"]) == 2 and traces["cursor"], traces
    _, more = await ask(client, "list_traces", {"errors": True, "limit": 2, "cursor": traces["cursor"]})
    assert more["traces"][0]["trace"] not in [trace["trace"] for trace in traces["traces"]], more
    _, usage = await ask(client, "usage", {"by": ["server"]})
    assert usage["total"]["calls"] > 0, usage
    text, losses = await ask(client, "losses", {})
    assert "entries" in losses, text

    refused = await client.call_tool("search_logs", {"since": "soon"})
    assert refused.is_error and "since" in refused.content[0].text, refused
    try:
        await client.call_tool("drop_tables", {})
        raise AssertionError("an unknown tool was called")
    except MCPError as error:
        assert "search_logs" in str(error), error

    resources = (await client.list_resources()).resources
    read = await client.read_resource(resources[0].uri)
    assert "«github»" in read.contents[0].text, read
    templates = (await client.list_resource_templates()).resource_templates
    assert len(templates) == 2, templates
    read = await client.read_resource(f"{resources[0].uri}/trace/{failed['trace']}")
    assert "Why: span" in read.contents[0].text, read
    prompts = (await client.list_prompts()).prompts
    assert [prompt.name for prompt in prompts] == ["why_did_it_fail"], prompts
    prompt = await client.get_prompt("why_did_it_fail", {"server": "github"})
    assert "tool_calls" in prompt.messages[0].content.text, prompt


async def transcript(client):
    async def show(tool, arguments):
        text, answer = await ask(client, tool, arguments)
        print(f"> {tool} {json.dumps(arguments)}\n{text}\n")
        return answer

    calls = await show("tool_calls", {"errors": True, "since": "1h", "limit": 1})
    failed = next(item for item in calls["items"] if item["kind"] == "call")
    trace = await show("get_trace", {"trace": failed["trace"]})
    await show("get_trace", {"trace": failed["trace"], "span": trace["reason"]["span"]})


async def main():
    how, where = sys.argv[1:3]
    if "--transcript" in sys.argv:
        async with Client(server(how, where)) as client:
            return await transcript(client)
    # The protocol as it is, and as clients spoke it before it had no sessions.
    for mode in ["auto", "legacy"]:
        async with Client(server(how, where), mode=mode) as client:
            await everything(client)


asyncio.run(main())
