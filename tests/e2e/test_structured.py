"""Structured answers: what the official SDK and LangChain ask for, and that every answer fits its schema by jsonschema's verdict."""
import enum
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Optional

import httpx
import jsonschema
import openai
import pytest
from daemon import ROOT, SMOLLM2, Daemon
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from test_tools import CHATML, HOW, TOLD

QWEN = os.path.join(ROOT, "models", "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf")
CASES = json.load(open(os.path.join(ROOT, "tests", "golden", "grammar", "schemas.json"), encoding="utf-8"))["cases"]
WEATHER = {"type": "object", "additionalProperties": False, "required": ["city", "days", "unit"], "properties": {
    "city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 14},
    "unit": {"enum": ["celsius", "fahrenheit"]}}}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather of a city.", "parameters": WEATHER}},
         {"type": "function", "function": {"name": "get_time", "description": "The time of a city.", "parameters": {
             "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}}}]
THINKING = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>\n{# </think> #}"


def check(schema, value):
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(value)


@pytest.fixture(scope="module")
def real():
    with Daemon("--model", f"qwen={QWEN}", "--context-length", "2048") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def qwen(real):
    return openai.OpenAI(base_url=real.url + "/v1", api_key="none", max_retries=0, timeout=240)


@pytest.fixture(scope="module")
def random_server(tmp_path_factory):
    """The simulated model draws bytes at random: what comes out is what the mask lets through. Every form of tool calls."""
    folder = tmp_path_factory.mktemp("forms")
    (folder / "thinking").write_text(THINKING, encoding="utf-8")
    lines = ["models:", "  - {name: sim, path: 'sim:seed=3,printable=0,eos=0.2'}",
             f"  - {{name: thinking, path: 'sim:echo=1', chat_template: {folder / 'thinking'}}}"]
    for name, how in HOW.items():
        (folder / name).write_text(TOLD.replace("HOW", "{% raw %}" + how + "{% endraw %}") + CHATML, encoding="utf-8")
        lines.append(f"  - {{name: {name}, path: 'sim:seed=5,printable=0,eos=0.2', chat_template: {folder / name}}}")
    config = folder / "inferd.yaml"
    config.write_text("\n".join(lines) + "\nkv_cache_memory: 8MiB\n", encoding="utf-8")
    with Daemon("--config", str(config)) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def random_sdk(random_server):
    return openai.OpenAI(base_url=random_server.url + "/v1", api_key="none", max_retries=0, timeout=120)


def ask(sdk, model, **more):
    return sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "How will the weather be in Paris?"}], **more)


def refused(sdk, model, **more):
    with pytest.raises(openai.BadRequestError) as error:
        ask(sdk, model, **more)
    return error.value.body


def schema_format(schema, strict=False, name="answer"):
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": strict}}


class Kind(str, enum.Enum):
    fruit = "fruit"
    vegetable = "vegetable"


class Part(BaseModel):
    name: str = Field(max_length=16)
    parts: list["Part"] = Field(max_length=2)


class Food(BaseModel):
    name: str = Field(max_length=24)
    kind: Kind
    sizes: list[int] = Field(max_length=3)
    note: Optional[str] = Field(max_length=24)
    colour: Literal["red", "green"]
    fresh: bool


def test_parse_with_a_pydantic_model(qwen):
    answer = qwen.chat.completions.parse(model="qwen", temperature=0, max_tokens=200, response_format=Food, messages=[
        {"role": "user", "content": "Describe an apple as JSON."}])
    (choice,) = answer.choices
    assert choice.finish_reason == "stop" and isinstance(choice.message.parsed, Food)
    assert "pple" in choice.message.parsed.name


def test_parse_says_when_the_limit_cut_the_json_off(qwen):
    with pytest.raises(openai.LengthFinishReasonError):
        qwen.chat.completions.parse(model="qwen", max_tokens=5, response_format=Food, messages=[{"role": "user", "content": "An apple."}])


def test_parse_of_strict_tools(qwen):
    answer = qwen.chat.completions.parse(model="qwen", temperature=0, max_tokens=200, tool_choice="required", tools=[openai.pydantic_function_tool(Food)],
                                         messages=[{"role": "user", "content": "Describe an apple."}])
    (call,) = answer.choices[0].message.tool_calls[:1]
    assert answer.choices[0].finish_reason == "tool_calls" and isinstance(call.function.parsed_arguments, Food)


def test_the_streaming_helper_parses_too(qwen):
    with qwen.chat.completions.stream(model="qwen", temperature=0, max_tokens=200, response_format=Food, messages=[
            {"role": "user", "content": "Describe an apple as JSON."}]) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Food)


def test_a_recursive_model_at_a_high_temperature(qwen):
    for seed in range(3):
        answer = qwen.chat.completions.create(model="qwen", temperature=1.5, seed=seed, max_tokens=300, messages=[
            {"role": "user", "content": "The parts of a bicycle."}], response_format=schema_format(Part.model_json_schema()))
        if answer.choices[0].finish_reason == "stop":
            Part.model_validate_json(answer.choices[0].message.content)


def test_required_and_named_tools(qwen):
    answer = ask(qwen, "qwen", tools=TOOLS, tool_choice="required", temperature=0, max_tokens=200)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    for call in choice.message.tool_calls:
        schema = {t["function"]["name"]: t["function"]["parameters"] for t in TOOLS}[call.function.name]
        check(schema, json.loads(call.function.arguments))
    named = {"type": "function", "function": {"name": "get_time"}}
    for stream in (False, True):
        answer = ask(qwen, "qwen", tools=TOOLS, tool_choice=named, temperature=0, max_tokens=200, stream=stream)
        if stream:
            calls, finish = {}, None
            for chunk in answer:
                finish = chunk.choices[0].finish_reason or finish
                for delta in chunk.choices[0].delta.tool_calls or []:
                    name, arguments = calls.get(delta.index, ("", ""))
                    calls[delta.index] = (name + (delta.function.name or ""), arguments + (delta.function.arguments or ""))
            ((name, arguments),) = calls.values()
        else:
            finish = answer.choices[0].finish_reason
            (call,) = answer.choices[0].message.tool_calls
            name, arguments = call.function.name, call.function.arguments
        assert name == "get_time" and finish == "tool_calls"
        check(TOOLS[1]["function"]["parameters"], json.loads(arguments))


def test_langchain_structured_output(real):
    chat = ChatOpenAI(base_url=real.url + "/v1", api_key="none", model="qwen", temperature=0, max_tokens=200, max_retries=0)
    for method in ("json_schema", "function_calling"):
        answer = chat.with_structured_output(Food, method=method).invoke("Describe an apple.")
        assert isinstance(answer, Food), method


def test_json_object(qwen, random_sdk):
    answer = qwen.chat.completions.create(model="qwen", temperature=0, max_tokens=150, response_format={"type": "json_object"}, messages=[
        {"role": "user", "content": 'Answer with JSON only: {"capital": …} of France.'}])
    assert answer.choices[0].finish_reason == "stop" and isinstance(json.loads(answer.choices[0].message.content), dict)
    ended = 0
    for seed in range(20):
        choice = ask(random_sdk, "sim", seed=seed, max_tokens=2000, response_format={"type": "json_object"}).choices[0]
        ended += choice.finish_reason == "stop"
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
    assert ended >= 5


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_random_answers_fit_their_schema(random_sdk, case):
    ended = 0
    likely = set("".join(text["text"] for text in case["texts"] if text["valid"]).encode() + b'"]}')
    for seed in range(4):
        choice = ask(random_sdk, "sim", seed=seed, max_tokens=1500, response_format=schema_format(case["schema"]),
                     logit_bias={str(byte): 4 for byte in likely}).choices[0]
        if choice.finish_reason == "stop":
            check(case["schema"], json.loads(choice.message.content))
            ended += 1
    assert ended > 0


def test_random_answers_of_completions_fit_too(random_server):
    schema = CASES[[case["name"] for case in CASES].index("optional members")]["schema"]
    body = {"model": "sim", "prompt": "x", "max_tokens": 500, "seed": 5, "response_format": schema_format(schema)}
    answer = httpx.post(random_server.url + "/v1/completions", json=body).json()
    check(schema, json.loads(answer["choices"][0]["text"]))


CALL_SCHEMA = {"type": "object", "required": ["code", "count"], "additionalProperties": False, "properties": {
    "code": {"type": "string", "pattern": "^[a-z]{2,6}$"}, "count": {"type": "integer", "minimum": 0, "maximum": 99},
    "flag": {"type": "boolean"}, "unit": {"enum": ["c", "f"]}, "maybe": {"anyOf": [{"type": "null"}, {"type": "integer", "maximum": 9}]},
    "list": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 10}, "maxItems": 3}}}
CALL_TOOLS = [{"type": "function", "function": {"name": "first", "parameters": CALL_SCHEMA}},
              {"type": "function", "function": {"name": "second.one"}}]


@pytest.mark.parametrize("form", ["hermes", "qwen3_coder", "glm45", "glm4", "llama3", "mistral"])
def test_random_calls_in_each_form(random_sdk, form):
    """Whatever the grammar lets through, the form's parser finds calls in it, of the right functions with the right arguments."""
    seen = set()
    for seed in range(12):
        choice = ask(random_sdk, form, seed=seed, max_tokens=2000, tools=CALL_TOOLS, tool_choice="required").choices[0]
        if choice.finish_reason == "length":
            continue
        assert choice.finish_reason == "tool_calls" and choice.message.content is None
        for call in choice.message.tool_calls:
            seen.add(call.function.name)
            check(CALL_SCHEMA if call.function.name == "first" else {"type": "object", "maxProperties": 0}, json.loads(call.function.arguments))
    assert seen == {"first", "second.one"}
    for choice in ({"type": "function", "function": {"name": "first"}},
                   {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "first"}}]}}):
        answer = ask(random_sdk, form, seed=1, max_tokens=2000, tools=CALL_TOOLS, tool_choice=choice, parallel_tool_calls=False).choices[0]
        (call,) = answer.message.tool_calls
        assert call.function.name == "first"
        check(CALL_SCHEMA, json.loads(call.function.arguments))


def test_strict_functions_bind_calls_that_are_not_required(random_sdk):
    tools = [{"type": "function", "function": {"name": "first", "parameters": CALL_SCHEMA, "strict": True}}]
    for seed in range(6):
        choice = ask(random_sdk, "hermes", seed=seed, max_tokens=300, tools=tools).choices[0]
        for call in choice.message.tool_calls or []:
            check(CALL_SCHEMA, json.loads(call.function.arguments))
    body = refused(random_sdk, "llama3", tools=tools)
    assert body["param"] == "tools" and "llama3" in body["message"]


def test_json_or_calls(random_sdk):
    kinds = set()
    for seed in range(16):
        message = ask(random_sdk, "hermes", seed=seed, max_tokens=1500, tools=CALL_TOOLS, response_format=schema_format({"type": "boolean"})).choices[0].message
        kinds.add("call" if message.tool_calls else "json")
        if not message.tool_calls:
            assert message.content.strip() in ("true", "false")
    assert kinds == {"call", "json"}


@pytest.mark.parametrize("says, answers", [('hm\n</think>\n\n"yes"', ["yes"]), ("hm\n</think>\n\nmaybe", ["yes", "no"]),
                                           ("hm</think>", ["yes", "no"])])
def test_reasoning_comes_first(random_sdk, says, answers):
    """This model repeats what it is told behind the tag that its template wrote already, as far as it may."""
    for stream in (False, True):
        answer = random_sdk.chat.completions.create(model="thinking", max_tokens=100, stream=stream, messages=[{"role": "user", "content": "<think>\n" + says}],
                                                    response_format=schema_format({"enum": ["yes", "no"]}))
        if stream:
            deltas = [chunk.choices[0].delta for chunk in answer]
            content = "".join(d.content or "" for d in deltas)
            reasoning = "".join(getattr(d, "reasoning_content", None) or "" for d in deltas)
        else:
            assert answer.choices[0].finish_reason == "stop"
            content, reasoning = answer.choices[0].message.content, answer.choices[0].message.reasoning_content
        assert reasoning == "hm" and json.loads(content) in answers


def test_what_cannot_be_enforced(random_server, random_sdk):
    unique = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "maxItems": 2}}}
    body = refused(random_sdk, "sim", response_format=schema_format(unique, strict=True))
    assert "/properties/a/uniqueItems" in body["message"] and body["param"] == "response_format.json_schema.schema"
    lenient = httpx.post(random_server.url + "/v1/chat/completions", json={
        "model": "sim", "messages": [{"role": "user", "content": "x"}], "response_format": schema_format(unique), "max_tokens": 300})
    assert lenient.status_code == 200
    assert lenient.headers["x-inferd-ignored"] == "response_format.json_schema.schema#/properties/a/uniqueItems"
    for schema in ({"type": "strin"}, {"properties": {"a": {"pattern": "(?=x)"}}}, {"$ref": "#/nowhere"}, {"enum": []}, False):
        assert refused(random_sdk, "sim", response_format=schema_format(schema))["code"] == "invalid_json_schema"
    bad = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"pattern": "\\1"}}}}}]
    assert refused(random_sdk, "hermes", tools=bad, tool_choice="required")["param"] == "tools[0].function.parameters"
    assert refused(random_sdk, "sim", tools=TOOLS, tool_choice="required")["param"] == "tool_choice"
    assert "chatglm3" in refused(random_sdk, "chatglm3", tools=TOOLS, tool_choice="required")["message"]
    assert refused(random_sdk, "hermes", tools=TOOLS, tool_choice={"type": "function", "function": {"name": "x"}})["param"] == "tool_choice.function.name"
    assert refused(random_sdk, "hermes", tool_choice="required")["param"] == "tool_choice"


def test_a_bias_against_what_must_come(random_sdk):
    body = refused(random_sdk, "sim", response_format=schema_format({"const": 12}), logit_bias={str(ord("2")): -100})
    assert body["param"] == "logit_bias"


def test_same_seed_same_answer_in_company(random_sdk):
    schemas = [case["schema"] for case in CASES[:8]]

    def one(i):
        return ask(random_sdk, "sim", seed=i, max_tokens=200, response_format=schema_format(schemas[i % 8])).choices[0].message.content
    alone = [one(i) for i in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(16))) == alone


def test_smollm2_writes_json_as_well(server, client):
    answer = client.chat.completions.create(model="smollm2", temperature=0, max_tokens=200, response_format=schema_format(WEATHER, True), messages=[
        {"role": "user", "content": "A forecast for Paris."}])
    check(WEATHER, json.loads(answer.choices[0].message.content))
