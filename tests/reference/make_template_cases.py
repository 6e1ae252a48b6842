"""Renders chat templates and small snippets with Python's jinja2, set up as transformers does, and writes what came out.

    python make_template_cases.py --templates DIR [--gguf FILE ...] --out tests/golden/templates

cases.json      the conversations
published.json  sha256 of a template file -> its name, and per case the rendering or "error"
snippets.json   source, variables and rendering of each snippet of template_snippets.py
"""
import argparse
import copy
import datetime
import hashlib
import json
import os
import pathlib
import time

import jinja2
from jinja2.sandbox import SandboxedEnvironment, SecurityError
from transformers.utils.chat_template_utils import _alias_reasoning_fields, _compile_jinja_template

from template_snippets import SNIPPETS

NOW = 1700000000
BOS, EOS = "<s>", "</s>"

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city, today.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "The city's name"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "Unit", "default": "celsius"},
            "days": {"type": "integer", "description": "How many days"}},
            "required": ["city"]},
        "returns": {"type": "string", "description": "A sentence"}}},
    {"type": "function", "function": {
        "name": "search", "description": "Full-text search <in> \"documents\" & more",
        "parameters": {"type": "object", "properties": {
            "query": {"type": "string", "description": "What to look for"},
            "filters": {"type": "object", "description": "Filters", "properties": {
                "tags": {"type": "array", "items": {"type": "string"}, "description": "Tags"},
                "since": {"type": ["string", "null"], "description": "ISO date"}}}},
            "required": ["query"]}}},
]


def user(text):
    return {"role": "user", "content": text}


def system(text):
    return {"role": "system", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, call_id="call00001"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(text, name="get_weather", call_id="call00001"):
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": text}


def make_cases():
    ask = user("What is the weather in Oslo?")
    calls = [call("get_weather", {"city": "Oslo", "days": 2, "unit": "celsius"})]
    chat = [system("Be brief."), user("Hi"), assistant("Hello! How can I help?"), user("Name a colour.")]
    cases = {
        "user": {"messages": [user("Hello there")]},
        "system_user": {"messages": [system("You are terse."), user("Hello there")]},
        "multi_turn": {"messages": chat},
        "no_prompt": {"messages": chat + [assistant("Blue")], "add_generation_prompt": False},
        "tools": {"messages": [system("Use tools."), ask], "tools": TOOLS},
        "tools_no_system": {"messages": [ask], "tools": TOOLS},
        "tool_call": {"messages": [ask, assistant("", tool_calls=calls), result("Sunny, 21 °C")], "tools": TOOLS},
        "tool_call_null": {"messages": [ask, assistant(None, tool_calls=calls), result('{"t": 21}'),
                                        assistant("It is sunny."), user("Thanks")], "tools": TOOLS},
        "tool_call_text": {"messages": [ask, assistant("", tool_calls=[call("get_weather", '{"city": "Oslo"}')]),
                                        result("Sunny")], "tools": TOOLS},
        "two_calls": {"messages": [
            system("Use tools."), ask,
            assistant("Looking.", tool_calls=calls + [call("search", {"query": "a \"b\" <c>", "filters": {
                "tags": ["x", "y"], "since": None}}, "call00002")]),
            result("Sunny"), result("[]", "search", "call00002")], "tools": TOOLS},
        "reasoning": {"messages": [user("2+2?"), assistant("4", reasoning_content="Two and two make four."),
                                   user("And 3+3?")]},
        "thinking_inline": {"messages": [user("2+2?"), assistant("<think>\neasy\n</think>\n\n4"), user("And 3+3?")]},
        "reasoning_tools": {"messages": [ask, assistant("", reasoning_content="I need a tool.", tool_calls=calls),
                                         result("Sunny")], "tools": TOOLS},
        "no_thinking": {"messages": [user("Hello")], "kwargs": {"enable_thinking": False, "thinking": False}},
        "thinking": {"messages": [user("Hello")],
                     "kwargs": {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}},
        "unicode": {"messages": [system("Ñandú Straße"), user("  naïve 你好 🙂\u200b \t"), assistant("Ответ: да"),
                                 user("<|im_end|>\n{{ x }} \\n \"quoted\" 'it''s'")]},
        "parts": {"messages": [user([{"type": "text", "text": "First."}, {"type": "text", "text": " Second."}])]},
        "parts_system": {"messages": [system([{"type": "text", "text": "Terse."}]),
                                      user([{"type": "text", "text": "Hi"}])]},
        "developer": {"messages": [{"role": "developer", "content": "Be kind."}, user("Hi")]},
        "empty_content": {"messages": [system(""), user(""), assistant(""), user("x")]},
        "no_messages": {"messages": []},
        "bad_order": {"messages": [assistant("I begin"), assistant("twice"), user("x"), user("y")]},
    }
    for case in cases.values():
        case["messages"] = _alias_reasoning_fields(case["messages"])
        case.setdefault("tools", None)
        case.setdefault("add_generation_prompt", True)
        case.setdefault("kwargs", {})
    return cases


def tolerant_tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys,
                      default=list)


def environment(tolerant):
    env = copy.copy(_compile_jinja_template("").environment)
    env.globals = dict(env.globals)
    env.filters = dict(env.filters)
    env.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(NOW).strftime(form)
    env.filters["from_json"] = json.loads  # llama.cpp's extra filter, which its own templates use
    if tolerant:
        env.__class__ = SandboxedEnvironment
        env.filters["tojson"] = tolerant_tojson
    return env


def render(source, variables):
    """{"output": …} or {"error": …}.

    "tolerant": the template changes lists, or dumps what map() gives, which transformers refuses and inferd does not.
    """
    for tolerant in (False, True):
        try:
            out = environment(tolerant).from_string(source).render(**copy.deepcopy(variables))
            return {"output": out, **({"tolerant": True} if tolerant else {})}
        except Exception as error:  # whatever Python raises is a refusal
            known = isinstance(error, SecurityError) or "generator is not JSON serializable" in str(error)
            if not known or tolerant:
                return {"error": f"{type(error).__name__}: {error}"}


def variables_of(case):
    return {"messages": case["messages"], "tools": case["tools"], "documents": None,
            "add_generation_prompt": case["add_generation_prompt"], "bos_token": BOS, "eos_token": EOS, **case["kwargs"]}


def template_sources(arguments):
    for path in sorted(pathlib.Path(arguments.templates).glob("*.jinja")):
        yield path.name, path.read_bytes()
    for name in arguments.gguf:
        import gguf
        field = gguf.GGUFReader(name).fields["tokenizer.chat_template"]
        yield pathlib.Path(name).name, bytes(field.parts[field.data[0]])


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--templates", required=True)
    parser.add_argument("--gguf", nargs="*", default=[])
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    os.environ["TZ"] = "UTC"
    time.tzset()
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    cases = make_cases()
    published = {}
    for name, data in template_sources(arguments):
        source = data.decode("utf-8")
        published[hashlib.sha256(data).hexdigest()] = {
            "file": name, "cases": {key: render(source, variables_of(case)) for key, case in cases.items()}}
    write(out / "cases.json", {"now": NOW, "bos_token": BOS, "eos_token": EOS, "cases": cases})
    write(out / "published.json", published)
    snippets = []
    for source, variables in SNIPPETS:
        snippets.append({"source": source, "variables": variables, **render(source, variables)})
    write(out / "snippets.json", {"now": NOW, "jinja2": jinja2.__version__, "snippets": snippets})


if __name__ == "__main__":
    main()
