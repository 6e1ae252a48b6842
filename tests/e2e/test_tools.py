"""Tool calls and reasoning over HTTP: the simulated model repeats what it is told, so each request says what the model writes."""
import json

import httpx
import openai
import pytest
from daemon import Daemon

CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}{{ c | tojson }}"
          "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
TOLD = "{% if tools %}<|im_start|>system\n{{ tools | tojson }} HOW<|im_end|>\n{% endif %}"
THINKING = "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
OPEN = "{% if add_generation_prompt %}<think>\n{% endif %}"
# What a template says of the form of calls, and so tells the server.
HOW = {
    "hermes": '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>',
    "qwen3_coder": "<tool_call>\n<function=example>\n<parameter=x>\nvalue\n</parameter>\n</function>\n</tool_call>",
    "glm45": "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>\n</tool_call>",
    "glm4": "<|observation|> 在调用上述函数时，请使用 Json 格式表示调用的参数。",
    "chatglm3": "<|observation|> tool_call(",
    "llama3": 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.',
    "mistral": "[TOOL_CALLS]",
}
ANSWERS = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 3}}\n</tool_call>',
    "qwen3_coder": "<tool_call>\n<function=weather>\n<parameter=city>\nKöln\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
                   "</function>\n</tool_call>",
    "glm45": "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n<arg_key>days</arg_key>\n"
             "<arg_value>3</arg_value>\n</tool_call>",
    "glm4": 'weather\n{"city": "Köln", "days": 3}',
    "chatglm3": "weather\n ```python\ntool_call(city='Köln', days=3)\n```",
    "llama3": '<|python_tag|>{"name": "weather", "parameters": {"city": "Köln", "days": 3}}',
    "mistral": '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Köln", "days": 3}}]',
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}}}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("templates")
    templates = {name: TOLD.replace("HOW", "{% raw %}" + how + "{% endraw %}") + CHATML
                 for name, how in HOW.items()}
    templates |= {"qwen3": templates["hermes"] + THINKING, "r1": CHATML + OPEN + "{# </think> #}", "plain": CHATML}
    lines = ["models:"]
    for name, text in templates.items():
        (folder / name).write_text(text, encoding="utf-8")
        lines.append(f"  - {{name: {name}, path: 'sim:echo=1', chat_template: {folder / name}}}")
    lines.append(f"  - {{name: untold, path: 'sim:echo=1', tool_parser: hermes, reasoning_parser: think}}")
    lines.append(f"  - {{name: off, path: 'sim:echo=1', chat_template: {folder / 'qwen3'}, tool_parser: none, "
                 "reasoning_parser: none}")
    config = folder / "inferd.yaml"
    config.write_text("\n".join(lines) + "\nkv_cache_memory: 8MiB\n", encoding="utf-8")
    with Daemon("--config", str(config)) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def sdk(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60)


def ask(sdk, model, says, **more):
    return sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": says}], **more)


class Streamed:
    """The deltas of a stream, put together as the SDK's own accumulators do: strings joined, calls by index."""

    def __init__(self, chunks):
        self.content, self.reasoning, self.calls, self.finish, self.pieces = "", "", [], None, 0
        for chunk in chunks:
            (choice,) = chunk.choices
            assert self.finish is None, "nothing comes after the finish"
            self.finish = choice.finish_reason
            self.content += choice.delta.content or ""
            self.reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or []:
                if call.index == len(self.calls):
                    assert call.id and call.function.name and call.type == "function" and call.function.arguments == ""
                    self.calls.append([call.id, call.function.name, ""])
                else:
                    assert call.index == len(self.calls) - 1
                    assert call.id is None and call.function.name is None and call.type is None and call.function.arguments
                    self.calls[-1][2] += call.function.arguments
                    self.pieces += 1


@pytest.mark.parametrize("form", sorted(ANSWERS))
def test_a_call_in_each_form_whole_and_streamed(sdk, form):
    says = "I will look.\n\n" + ANSWERS[form]
    answer = ask(sdk, form, says, tools=TOOLS)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls" and choice.message.content == "I will look."
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Köln", "days": 3}
    streamed = Streamed(ask(sdk, form, says, tools=TOOLS, stream=True))
    assert streamed.content == "I will look." and streamed.finish == "tool_calls"
    ((call_id, name, arguments),) = streamed.calls
    assert name == "weather" and arguments == call.function.arguments and call_id != call.id
    assert streamed.pieces > 3 or form == "chatglm3", "the arguments came in one piece"


@pytest.mark.parametrize("form", sorted(ANSWERS))
def test_two_calls_and_no_content(sdk, form):
    says = ANSWERS[form] + "\n" + ANSWERS[form]
    (choice,) = ask(sdk, form, says, tools=TOOLS).choices
    assert choice.message.content is None and len(choice.message.tool_calls) == 2
    assert len({call.id for call in choice.message.tool_calls}) == 2
    streamed = Streamed(ask(sdk, form, says, tools=TOOLS, stream=True))
    assert streamed.content == "" and [c[2] for c in streamed.calls] == [c.function.arguments for c in choice.message.tool_calls]
    (one,) = ask(sdk, form, says, tools=TOOLS, parallel_tool_calls=False).choices
    assert len(one.message.tool_calls) == 1


@pytest.mark.parametrize("form", sorted(ANSWERS))
def test_without_tools_or_with_none_a_call_is_text(sdk, form):
    for arguments in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        (choice,) = ask(sdk, form, ANSWERS[form], **arguments).choices
        assert choice.message.content == ANSWERS[form] and choice.message.tool_calls is None
        assert choice.finish_reason == "stop"
    assert ask(sdk, form, ANSWERS[form], tools=TOOLS, tool_choice="auto").choices[0].message.tool_calls
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        if form == "chatglm3":
            with pytest.raises(openai.BadRequestError):
                ask(sdk, form, "x", tools=TOOLS, tool_choice=choice)
        else:
            required = ask(sdk, form, ANSWERS[form], tools=TOOLS, tool_choice=choice).choices[0]
            assert json.loads(required.message.tool_calls[0].function.arguments) == {"city": "Köln", "days": 3}


@pytest.mark.parametrize("form", sorted(ANSWERS))
def test_output_that_is_no_call_comes_back_as_content(sdk, form):
    broken = ANSWERS[form].replace('"name"', '"nome"').replace("weather\n", "weather!\n").replace("=weather", "=")
    (choice,) = ask(sdk, form, broken, tools=TOOLS).choices
    assert choice.message.content == broken and choice.finish_reason == "stop"
    streamed = Streamed(ask(sdk, form, broken, tools=TOOLS, stream=True))
    assert streamed.content == broken and streamed.calls == [] and streamed.finish == "stop"


def test_a_call_cut_off_by_the_limit_is_not_a_finished_call(sdk):
    answer = ask(sdk, "hermes", ANSWERS["hermes"], tools=TOOLS, max_tokens=60).choices[0]
    assert answer.finish_reason == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.message.tool_calls[0].function.arguments)
    streamed = Streamed(ask(sdk, "hermes", ANSWERS["hermes"], tools=TOOLS, max_tokens=60, stream=True))
    assert streamed.finish == "length" and streamed.calls[0][2] == answer.message.tool_calls[0].function.arguments


@pytest.mark.parametrize("model, says", [("qwen3", "<think>\nhm\n</think>\n\nfour"), ("r1", "<think>\nhm\n</think>\n\nfour"),
                                         ("untold", "<think>hm</think>four")])
def test_reasoning_comes_apart_from_content(sdk, model, says):
    answer = ask(sdk, model, says)
    assert answer.choices[0].message.reasoning_content == "hm" and answer.choices[0].message.content == "four"
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0
    streamed = Streamed(ask(sdk, model, says, stream=True))
    assert streamed.reasoning == "hm" and streamed.content == "four" and streamed.finish == "stop"


def test_thinking_can_be_switched_off_through_the_template(server, sdk):
    body = {"model": "qwen3", "messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"enable_thinking": False}}
    tokens = httpx.post(server.url + "/tokenize", json=body).json()["tokens"]
    assert bytes(t for t in tokens if t < 256).decode().endswith("assistant\n<think>\n\n</think>\n\n")
    says = "<think>\n\n</think>\n\nfour"  # an echo begins with what the template wrote of the answer
    message = ask(sdk, "qwen3", says, extra_body={"chat_template_kwargs": {"enable_thinking": False}}).choices[0].message
    assert message.content == "four" and not hasattr(message, "reasoning_content")


def test_models_without_thinking_or_tools_answer_as_they_write(sdk):
    says = "<think>\nhm\n</think>\n\n" + ANSWERS["hermes"]
    for model in ("plain", "off"):
        message = ask(sdk, model, says, tools=TOOLS).choices[0].message
        assert message.content == says and message.tool_calls is None and not hasattr(message, "reasoning_content")


def test_reasoning_then_a_call(sdk):
    says = "<think>\nI need a tool.\n</think>\n\n" + ANSWERS["hermes"]
    message = ask(sdk, "qwen3", says, tools=TOOLS).choices[0].message
    assert message.reasoning_content == "I need a tool." and message.content is None
    assert message.tool_calls[0].function.name == "weather"
    streamed = Streamed(ask(sdk, "qwen3", says, tools=TOOLS, stream=True))
    assert streamed.reasoning == "I need a tool." and len(streamed.calls) == 1 and streamed.content == ""


def test_a_result_can_be_sent_back(sdk):
    """The round trip of an agent: the call as it came, then its result."""
    first = ask(sdk, "hermes", ANSWERS["hermes"], tools=TOOLS).choices[0].message
    messages = [{"role": "user", "content": "x"}, first.model_dump(exclude_none=True),
                {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "Sunny"}]
    answer = sdk.chat.completions.create(model="hermes", messages=messages, tools=TOOLS)
    assert answer.choices[0].message.content == "Sunny" and answer.choices[0].finish_reason == "stop"


def test_the_sdk_streaming_helper_reads_the_calls(sdk):
    says = ANSWERS["hermes"] + "\n" + ANSWERS["hermes"]
    with sdk.chat.completions.stream(model="hermes", messages=[{"role": "user", "content": says}], tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.done") == 2
    assert [json.loads(c.function.arguments) for c in final.choices[0].message.tool_calls] == [{"city": "Köln", "days": 3}] * 2
