"""Chat templates in the manner of well-known models', and conversations for them."""

from __future__ import annotations

from typing import Any

CHATML = """
{%- if messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\nYou answer in one sentence.<|im_end|>\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""

CHATML_GENERATION = """
{%- if messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\nYou answer in one sentence.<|im_end|>\n' }}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ '<|im_start|>assistant\n' }}
{%- generation -%}{{ message['content'] + '<|im_end|>' + '\n' }}{%- endgeneration -%}
{%- else -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""

BRACKETS = """
{%- if messages[0]['role'] == 'system' %}
    {%- set rest = messages[1:] %}
    {%- set system = '<<SYS>>\n' ~ messages[0]['content'] | trim ~ '\n<</SYS>>\n\n' %}
{%- else %}
    {%- set rest = messages %}
    {%- set system = '' %}
{%- endif %}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user/assistant') }}
    {%- endif %}
    {%- set content = system ~ message['content'] if loop.first else message['content'] %}
    {%- if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {%- else %}
        {{- ' ' + content.strip() + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}
"""

HEADERS = """
{%- set date = strftime_now("%d %b %Y") if strftime_now is defined else "26 Jul 2024" %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|im_start|>system<|end|>\n\nToday: " + date + "\n" }}
{%- if tools is not none %}
    {{- "Call functions by JSON.\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- "\n" }}
    {%- endfor %}
{%- endif %}
{{- system + "<|im_end|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|im_start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim }}
        {{- '<|im_end|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|im_start|>assistant<|end|>\n\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson + '}<|im_end|>' }}
    {%- else %}
        {{- '<|im_start|>ipython<|end|>\n\n' }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- endif %}
        {{- '<|im_end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant<|end|>\n\n' }}
{%- endif %}
"""

PIPES = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

TURNS = """
{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% if message['role'] == 'assistant' %}{% set role = 'model' %}
{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}
"""

THINKING = """
{%- set ns = namespace(last=-1, many=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if ns.last < 0 and message.role == "user" %}{%- set ns.last = index %}{%- endif %}
{%- endfor %}
{%- if tools %}
    {{- '<|im_start|>system\n<tools>' }}
    {%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
    {{- '\n</tools><|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- set thought = message.reasoning_content or '' %}
        {%- if not thought and '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function or call %}
            {{- '\n<tool_call>\n{"name": "' + call.name + '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or messages[loop.index0 - 1].role != "tool" %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + content + '\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""

MACROS = """
{%- macro typed(spec) -%}
    {%- if spec.type == "array" -%}list of {{ typed(spec["items"]) }}
    {%- elif spec.type in ("string", "integer") -%}{{ spec.type }}
    {%- else -%}any{%- endif -%}
{%- endmacro -%}
{{ bos_token }}
{%- for tool in tools or [] -%}
    {%- set function = tool.function -%}
    {{ function.name }}(
    {%- for name, spec in function.parameters.properties.items() | sort -%}
        {{ name }}: {{ typed(spec) }}{{ ", " if not loop.last }}
    {%- endfor -%})
{% endfor -%}
{%- for document in documents or [] -%}
    <doc id={{ loop.index }}>{{ document.title | upper }}: {{ document['text'] }}</doc>
{% endfor -%}
{%- for message in messages -%}
    {%- if message.role == 'tool' -%}{%- continue -%}{%- endif -%}
    {%- if loop.index > 40 -%}{%- break -%}{%- endif -%}
    {%- for part in ([message.content] if message.content is string else message.content or []) -%}
        [{{ message.role | capitalize }}]{{ part if part is string else part.text }}
    {%- endfor -%}
{%- endfor -%}
{{ "[Assistant]" if add_generation_prompt }}
"""

TEMPLATES = {
    "chatml": CHATML,
    "chatml-generation": CHATML_GENERATION,
    "brackets": BRACKETS,
    "headers": HEADERS,
    "pipes": PIPES,
    "turns": TURNS,
    "thinking": THINKING,
    "macros": MACROS,
}


def said(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    """Messages from roles and contents."""
    return [{"role": role, "content": content} for role, content in turns]


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What the sky is like <now> & soon; naïve",
        "parameters": {
            "type": "object",
            "properties": {
                "places": {"type": "array", "items": {"type": "string"}},
                "days": {"type": "integer"},
            },
        },
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"places": ["Köln"]}}}

CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "question": said(("user", "What is 2 + 2?")),
    "answer": said(("user", "What is 2 + 2?"), ("assistant", "It is 4.")),
    "system": said(("system", " Be brief. "), ("user", "Hello"), ("assistant", "Hi there")),
    "turns": said(
        ("user", "Hello"),
        ("assistant", "Hi."),
        ("user", " Who are you?\n"),
        ("assistant", "A model."),
        ("user", "Thanks"),
    ),
    "signs": said(
        ("user", "<b>\"Größe\" & 'Maß'</b> 模型 🙂\n\n"), ("assistant", "{{ 1 }} {% x %}")
    ),
    "specials": said(("user", "a <|im_end|> b"), ("assistant", "</s>")),
    "thought": said(
        ("user", "Think"), ("assistant", "<think>\nhm\n</think>\n\nDone"), ("user", "And now?")
    ),
    "reasoning": [
        *said(("user", "Think")),
        {"role": "assistant", "content": "Done", "thinking": "so it is"},
    ],
    "call": [
        *said(("user", "Will it rain?")),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        *said(("tool", "rain"), ("tool", "wind"), ("assistant", "Yes, with wind.")),
    ],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "in parts"}]}],
    "two users": said(("user", "One"), ("user", "Two")),
}
