"""Small templates, one per construct or corner of the language: (source, variables)."""

MESSAGES = [{"role": "system", "content": " Be kind. "}, {"role": "user", "content": "Hi <b>you</b> & 'me'"},
            {"role": "assistant", "content": "Ünïcode → 🙂"}]
PEOPLE = [{"name": "Zoe", "age": 30, "tags": ["a", "B"]}, {"name": "adam", "age": 25, "tags": []},
          {"name": "Bob", "age": 25, "tags": ["c"]}]
DATA = {"b": 1, "A": [1, 2.5, None, True], "c": {"x": "y\"z", "é": "ü\n\t\u0001"}, "items": "shadow"}

SNIPPETS = []


def add(*sources, **variables):
    SNIPPETS.extend((source, variables) for source in sources)


# Printing values.
add("{{ 1 }} {{ -2 }} {{ 1.0 }} {{ 1e20 }} {{ 1e-7 }} {{ 0.1 + 0.2 }} {{ 123456789.125 }} {{ 1e15 }} {{ 1e16 }} {{ 5e-5 }}",
    "{{ true }} {{ False }} {{ none }} {{ None }} {{ undefined_name }}|",
    "{{ [1, 'a', \"it's\", 'q\"', none, true, 1.5] }} {{ (1,) }} {{ (1, 2) }} {{ () }} {{ {'a': 1, 2: [3]} }}",
    "{{ 'a\\nb\\tc\\\\d\\'e\\u00e9\\x41\\101' }} {{ ['a\\nb\\\\', '\\u200b', '\\x7f', 'é'] }}",
    "{{ 'adjacent' 'strings' \"joined\" }}", "{{ 1_000 + 1 }} {{ 1_0.5 }}", "{{ {'a': {'b': 1}} }}{{ {} }}{{ [] }}")
add("{{ data }} {{ data.b }} {{ data['A'] }} {{ data.c.x }} {{ data.A[-1] }} {{ data.A.1 }} {{ data.nope }}|{{ data['items'] }}",
    "{{ data|tojson }}", "{{ data|tojson(indent=2) }}", "{{ data|tojson(indent=4, sort_keys=true) }}",
    "{{ data|tojson(ensure_ascii=true) }}", "{{ data|tojson(separators=(',', ':')) }}",
    "{{ data|tojson(indent='--') }}{{ []|tojson(indent=2) }}{{ {}|tojson(indent=2) }}", "{{ data.c | tojson | length }}",
    "{% for k, v in data.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in data %}{{ k }}{% endfor %}",
    "{{ data.keys()|list }} {{ data.values()|list|length }} {{ data.get('zz', 7) }} {{ data.get('zz') }} {{ data.get('b') }}",
    "{{ data|dictsort|map('first')|list }} {{ data|dictsort(true)|map('first')|list }} {{ data|items|list|length }}",
    "{{ 'b' in data }} {{ 'q' not in data }} {{ data|length }} {{ data is mapping }}",
    "{% for k, v in data|dictsort(reverse=true) %}{{ k }}{% endfor %}", data=DATA)
# Arithmetic.
add("{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }}",
    "{{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 2 * 3 % 4 }} {{ -3 ** 2 }} {{ 10 - 2 - 3 }} {{ 2 ** 3 ** 2 }}",
    "{{ true + 1 }} {{ 'ab' * 3 }} {{ [1] * 2 + [2] }} {{ 3 * 'x' }} {{ 'a' ~ 1 ~ none ~ [1] }} {{ +3 }} {{ -(-3) }}",
    "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 'a' + 1 }}", "{{ [] + () }}", "{{ 5 - 'a' }}", "{{ -'a' }}", "{{ 'a' ~ nope ~ 'b' }}",
    "{{ nope + 'a' }}", "{{ 1 + 2 ~ 3 }} {{ 'a' + 'b' ~ 'c' }}", "{{ 'x' * -1 }}|{{ 0.5 * 3 }} {{ 10 ** 15 }} {{ 3.0 * 2 }}")
# Comparison and logic.
add("{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 == true }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 'é' > 'z' }} {{ 1 != 2 }}",
    "{{ 1 < 'a' }}", "{{ none < 1 }}", "{{ 'a' == none }} {{ none == none }} {{ [] == [] }} {{ {'a': 1} == {'a': 1.0} }}",
    "{{ 1 in [1, 2] }} {{ 'b' in 'abc' }} {{ 3 not in [1] }} {{ 'x' in nope }} {{ not 1 in [1] }} {{ 'a' in ('a', 'b') }}",
    "{{ 1 in 'abc' }}", "{{ 1 in none }}", "{{ '' or 'x' }} {{ 0 and 1 }} {{ not '' }} {{ 1 and 2 or 3 }} {{ none or [] }}",
    "{{ 'a' if true else 'b' }}{{ 'a' if false }}{{ 'a' if false else 'b' if false else 'c' }}{{ ('x' if 0) is defined }}",
    "{{ not true == false }} {{ nope == other }} {{ nope == none }} {{ nope != 1 }} {{ 1 >= 1 }} {{ 2 <= 1 }}")
# Tests.
add("{% for v in [none, true, 1, 1.5, 'a', [], {}, (1,), nope] %}{{ v is none }} {{ v is string }} {{ v is number }} {{ v is integer }} "
    "{{ v is float }} {{ v is boolean }} {{ v is mapping }} {{ v is iterable }} {{ v is sequence }} {{ v is defined }} "
    "{{ v is undefined }} {{ v is callable }} {{ v is true }} {{ v is false }}\n{% endfor %}",
    "{{ 3 is odd }} {{ 3 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(4) }} {{ 1 is eq 1 }} {{ 1 is ne(1) }} {{ 1 is lt 2 }} {{ 1 is ge 2 }}",
    "{{ 'a' is in ['a'] }} {{ 'a' is not in 'bcd' }} {{ 'abc' is lower }} {{ 'ABC' is upper }} {{ '12' is lower }} {{ 1 is sameas 1 }}",
    "{{ 3 is not odd and 4 is even }} {{ 1 is equalto 1 or false }} {{ range is callable }} {{ 'x' is nosuchtest }}",
    "{{ nope is defined and nope.x }} {{ nope is not defined }} {{ 'trim' is filter }} {{ 'odd' is test }} {{ 'x' is greaterthan 'a' }}",
    "{{ '5' is number }} {{ true is number }} {{ true is integer }} {{ 4 is odd }}")
# Undefined.
add("{{ nope.x }}", "{{ nope() }}", "{{ {}.x.y }}", "{{ 'a'.nomethod() }}", "{{ nope|length }} {{ nope|list }} {{ nope|default('d') }}",
    "{% for x in nope %}x{% else %}empty{% endfor %}", "{{ nope|upper }}|{{ nope|trim }}|{{ nope|join(',') }}|{{ nope|first is defined }}",
    "{{ [1][5] is defined }} {{ 'abc'[7] is defined }} {{ [1]['a'] is defined }} {{ none.x is defined }}", "{% for x in none %}{% endfor %}",
    "{{ nope|tojson }}", "{{ 5() }}", "{{ nope.x is defined }}", "{% for x in 5 %}{% endfor %}")
# Slices.
add("{{ s[1:3] }} {{ s[:-1] }} {{ s[::-1] }} {{ s[-3:] }} {{ s[1:100:2] }} {{ s[5:2] }} {{ s[::2] }} {{ s[0] }}{{ s[-1] }} {{ l[1:] }} {{ l[::-1] }} {{ l[:2] }} {{ l[-2:-1] }} {{ l[none:none:2] }}",
    "{{ l[::0] }}", "{{ l['a':] }}", "{{ s|reverse }} {{ s|length }} {{ s|list }} {{ s|first }}{{ s|last }}", "{% for c in s %}{{ c }}-{% endfor %}",
    "{{ l[-100:100] }} {{ l[100:-100:-1] }} {{ l[2::-1] }} {{ s[9223372036854775807:] }}|{{ s[::9223372036854775807] }}",
    s="aéb🙂cd", l=[1, 2, 3, 4, 5])
# String methods.
add("{{ ' a b '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ 'abcba'.lstrip('ab') }}|{{ '\\n\\t x\\u00a0'.strip() }}|",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b c '.split() }} {{ 'a b c d'.split(' ', 2) }} {{ 'a b c d'.split(maxsplit=1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }}",
    "{{ 'a.b.c'.split('.')[-1] }} {{ 'x</think>y'.split('</think>')[0].rstrip('\\n').split('<think>')[-1] }}", "{{ 'a'.split('') }}",
    "{{ 'hello'.startswith('he') }} {{ 'hello'.endswith(('x', 'lo')) }} {{ 'hello'.startswith('l', 2) }} {{ 'hello'.find('l') }} {{ 'hello'.rfind('l') }} {{ 'hello'.find('z') }} {{ 'héllo'.find('l') }} {{ 'hello'.count('l') }} {{ 'hello'.index('o') }}",
    "{{ 'x'.startswith(1) }}", "{{ 'hello'.index('z') }}", "{{ 'a-b-c'.replace('-', '+') }} {{ 'a-b-c'.replace('-', '+', 1) }} {{ 'ab'.replace('', '.') }} {{ 'é'.replace('', '-') }}",
    "{{ 'hELLO wORLD'.title() }} {{ 'hELLO'.capitalize() }} {{ 'aB'.swapcase() }} {{ 'éß'.upper() }} {{ 'ÀÉ'.lower() }} {{ \"it's a dog's\".title() }} {{ 'a1b'.title() }}",
    "{{ ','.join(['a', 'b']) }} {{ ''.join([]) }} {{ '-'.join('abc') }} {{ ', '.join({'k': 1, 'l': 2}) }}", "{{ ','.join([1]) }}",
    "{{ '12'.isdigit() }} {{ ''.isdigit() }} {{ 'ab'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' \\n'.isspace() }} {{ 'AB'.isupper() }} {{ 'é'.islower() }} {{ '½'.isnumeric() }}",
    "{{ 'a\\nb\\r\\nc\\n'.splitlines() }} {{ 'a\\nb'.splitlines(true) }} {{ 'k=v=w'.partition('=') }} {{ 'k=v=w'.rpartition('=') }} {{ 'abc'.partition('z') }}",
    "{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'a'.center(4) }}|{{ 'ab'.center(5, '*') }} {{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }} {{ 'prefix_x'.removeprefix('prefix_') }} {{ 'x.py'.removesuffix('.py') }}",
    "{{ '{} and {}'.format(1, 'b') }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x}-{y[0]}-{z.k}'.format(x=1, y=[2], z={'k': 3}) }} {{ '{{}}'.format() }} {{ '{!r:>6}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{:x}|{:+}'.format('a', 'b', 'c', 42, 3.14159, 1234567, 255, 5) }}",
    "{{ '{}'.format() }}", "{{ '{'.format(1) }}", "{{ '{0}{}'.format(1) }}",
    "{{ '%s is %d and %.2f %r %x %5s|%-5s|%05d %%' % ('a', 3, 2.5, 'q', 255, 'r', 'l', 42) }} {{ '%s' % 'x' }} {{ '%(a)s' % {'a': 1} }}",
    "{{ '%s %s' % 'x' }}", "{{ '%d' % 'x' }}", "{{ 'x' % 1 }}", "{{ '%s' % ('a', 'b') }}")
# Filters.
add("{{ ' x '|trim }}|{{ 'xay'|trim('xy') }}|{{ 'aB'|upper }} {{ 'aB'|lower }} {{ 'hello wORLD-foo (bar)'|title }} {{ 'hELLO'|capitalize }} {{ 5|string ~ 'x' }} {{ 5|upper }}",
    "{{ 'a-b'|replace('-', '+') }} {{ 'aaa'|replace('a', 'b', 2) }} {{ 12|replace(1, 3) }}",
    "{{ [1, 2, 3]|join }} {{ [1, 2]|join(', ') }} {{ people|join('; ', attribute='name') }} {{ 'abc'|join('-') }} {{ [none, true]|join('|') }}",
    "{{ '42'|int }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ '3.9'|int }} {{ 3.9|int }} {{ -3.9|int }} {{ '0x1A'|int(0, 16) }} {{ ' 5 '|int }} {{ none|int }} {{ true|int }} {{ '1_000'|int }} {{ '1e3'|int }}",
    "{{ '1.5'|float }} {{ 'x'|float }} {{ 'x'|float(2.5) }} {{ 3|float }} {{ 'inf'|float }} {{ '1e3'|float }} {{ ' 2 '|float }}",
    "{{ [3, 1, 2]|sort }} {{ [3, 1, 2]|sort(reverse=true) }} {{ ['b', 'A', 'c']|sort }} {{ ['b', 'A', 'c']|sort(case_sensitive=true) }} {{ people|sort(attribute='age')|map(attribute='name')|list }} {{ people|sort(attribute='age,name')|map(attribute='name')|list }}",
    "{{ [1, 'a']|sort }}", "{{ [3, 1]|min }} {{ [3, 1]|max }} {{ []|min is defined }} {{ ['b', 'A']|min }} {{ people|max(attribute='age') }} {{ [1, 2.5]|sum }} {{ people|sum(attribute='age') }} {{ [[1], [2]]|sum(start=[]) }}",
    "{{ -5|abs }} {{ -2.5|abs }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 2.1|round(0, 'ceil') }} {{ 2.19|round(1, 'floor') }} {{ 42|round }} {{ 1234.5|round(-2) }}",
    "{{ ['a', 'A', 'b']|unique|list }} {{ ['a', 'A']|unique(true)|list }} {{ people|unique(attribute='age')|map(attribute='name')|list }}",
    "{{ people|map(attribute='name')|list }} {{ ['a', 'b']|map('upper')|join }} {{ people|map(attribute='tags.0')|list }} {{ people|map(attribute='zz', default='-')|list }} {{ ['1', 'x']|map('int', 9)|list }}",
    "{{ [0, 1, 2, '']|select|list }} {{ [1, 2, 3]|select('odd')|list }} {{ [1, 2, 3]|reject('odd')|list }} {{ [1, 2, 3]|select('>', 1)|list }} {{ [1, 2, 3]|select('in', [2, 3])|list }} {{ ['a', 1]|select('string')|list }}",
    "{{ people|selectattr('age', 'equalto', 25)|map(attribute='name')|list }} {{ people|rejectattr('age', 'gt', 26)|list|length }} {{ people|selectattr('tags')|list|length }} {{ people|selectattr('zz', 'defined')|list }}",
    "{{ people|groupby('age')|map('first')|list }} {% for age, group in people|groupby('age') %}{{ age }}:{{ group|map(attribute='name')|join(',') }};{% endfor %}{% for g in people|groupby('age') %}{{ g.grouper }}{{ g.list|length }}{% endfor %}",
    "{{ [1, 2, 3, 4, 5]|batch(2)|list }} {{ [1, 2, 3]|batch(2, 0)|list }} {{ [1, 2, 3, 4, 5]|slice(2)|list }} {{ [1, 2, 3]|slice(2, 'x')|list }}",
    "{{ [1, 2]|first }} {{ [1, 2]|last }} {{ []|first is defined }} {{ [1, 2]|reverse|list }} {{ 'abc'|list }} {{ {'a': 1}|list }} {{ [1, [2]]|length }} {{ 'abc'|count }} {{ 5|length }}",
    "{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|indent(2, false, true) }}|{{ 'a\\nb'|indent('>> ') }}|{{ 'a\\nb\\n'|indent(width=1, first=True) }}|",
    "{{ '<a href=\"x\">&\\'</a>'|e }} {{ '<b>'|safe }} {{ ('<'|safe) + '<' }} {{ '<' + ('>'|safe) }} {{ '<'|safe ~ '<' }} {{ '<'|e|e }} {{ ['<']|join('<'|safe) }} {{ ('<b>'|safe)|upper is escaped }} {{ '<'|forceescape }} {{ ['<'|safe] }}",
    "{{ nope|default }}|{{ nope|d('x') }}|{{ ''|default('x') }}|{{ ''|default('x', true) }}|{{ none|default('x') }}|{{ none|default('x', boolean=true) }}|",
    "{{ '%s-%s'|format('a', 1) }} {{ 'one two  three'|wordcount }} {{ 'hello big world'|truncate(9) }} {{ 'hello world'|truncate(9, true, '..', 0) }} {{ 'x'|center(5) }}|",
    "{{ [1]|nosuchfilter }}", "{{ 'a'|upper|lower|title }} {{ ['a', 'b']|join('-')|upper }} {{ -1|abs }} {{ 'x' + 'y'|upper }} {{ 'ab'|list|tojson }}",
    "{{ '[1, {\"a\": null}]'|from_json }} {{ people[0]|attr('name') is defined }} {{ people|tojson|length }}", people=PEOPLE)
# Loops.
add("{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }} {{ m.role }};{% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}<{{ m.role }}>{{ loop.nextitem.role if not loop.last }} {% endfor %}",
    "{% for m in messages if m.role != 'user' %}{{ loop.index }}/{{ loop.length }}{{ m.role }} {% else %}none{% endfor %}",
    "{% for m in messages if m.role == 'x' %}{{ m }}{% else %}nothing{% endfor %}", "{% for m in messages %}{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}{% endfor %}",
    "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in range(2) %}{% for j in range(2) %}{{ loop.depth }}{{ i }}{{ j }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 1 %}{{ x }} {% endfor %}{{ x }}", "{% set ns = namespace(x=0, l=[]) %}{% for i in range(3) %}{% set ns.x = ns.x + i %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.x }}{{ ns.l }}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }} {% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for i in range(1, 10, 3) %}{{ i }}{% endfor %}{% for i in range(3, 0, -1) %}{{ i }}{% endfor %}{{ range(3)|list }}", "{% for k in {'b': 1, 'a': 2} %}{{ k }}{% endfor %}{% for c in 'añb' %}{{ c }}.{% endfor %}",
    "{% for m in messages[::-1] %}{{ m.role }} {% endfor %}{% for m in messages|reverse %}{{ m.role }} {% endfor %}", "{% for i in [] %}{% endfor %}{{ i is defined }}{{ loop is defined }}",
    "{% for i in [1,2,3] %}{% for j in [1,2] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}", "{% break %}",
    "{{ messages[0].content|trim }}|{{ messages[1]['content'] }}|{{ messages|map(attribute='role')|join(',') }}|{{ (messages|last).role }}|{{ messages[-1].content[-1] }}", messages=MESSAGES)
# Set, scopes, macros.
add("{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, %}{{ t }}", "{% set x %} block {{ 1 + 1 }} {% endset %}[{{ x }}]{% set y | upper | trim %} abc {% endset %}[{{ y }}]",
    "{% if true %}{% set x = 5 %}{% endif %}{{ x }}{% if false %}{% set y = 1 %}{% endif %}{{ y is defined }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}{% set d = {} %}{% set d.a = 1 %}",
    "{% set ns = namespace(_x=1) %}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns['b'] }}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=3) }} {{ m(a=5, b=6) }} {{ m() }} {{ m.name }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=1) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}", "{% macro m() %}{% set q = 1 %}{{ q }}{% endmacro %}{{ m() }}{{ q is defined }}", "{% macro m() %} a {% endmacro %}[{{ m()|trim }}]{{ m() + 'x' }}{{ m()|length }}",
    "{% macro wrap(tag) %}<{{ tag }}>{{ caller() }}</{{ tag }}>{% endmacro %}{% call wrap('b') %}body{% endcall %}", "{% macro each(l) %}{% for i in l %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(x) each([1, 2]) %}[{{ x }}]{% endcall %}",
    "{% macro a(x, y=x) %}{{ x }}{{ y }}{% endmacro %}{{ a(3) }}", "{% filter upper %}abc{{ 1 }}{% endfilter %}{% filter replace('a', 'b')|trim %} aaa {% endfilter %}|",
    "a{% generation %} b {% set g = 1 %}{% endgeneration %}c{{ g is defined }}", "{% macro m(a, b) %}{{ a }}{{ b is defined }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3}) }}{{ m(*[1], **{'b': 2}) }}",
    "{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% set f = 'x'.upper %}{{ f() }}{{ dict(a=1, **{'b': 2}) }}{{ dict([('k', 'v')]) }}{{ dict({'a': 1}, a=2) }}",
    "{% set j = joiner(', ') %}{% for i in [1, 2, 3] %}{{ j() }}{{ i }}{% endfor %}{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}",
    "{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}{{ l.pop(0) }}{{ l }}{% set _ = l.extend([5, 6]) %}{{ l }}{% set _ = l.insert(0, 9) %}{{ l }}{% set _ = l.reverse() %}{{ l }}{{ l.index(9) }}{{ l.count(5) }}",
    "{% set d = {'a': 1} %}{% set _ = d.update({'b': 2}) %}{{ d }}{{ d.pop('a') }}{{ d }}{{ d.setdefault('c', 3) }}{{ d }}", "{{ [].pop() }}", "{{ {}.pop('a') }}", "{{ raise_exception('told you') }}",
    "{{ strftime_now('%Y-%m-%d %H:%M:%S %d %b %B %A') }}", "{% set messages = [1] + [2] %}{{ messages }}", "{% set true = 1 %}", "{% set x.y.z = 1 %}", "{{ loop }}|{{ caller is defined }}")
# White space.
add("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a {%- if true -%} b {%- endif -%} c", "a\n{{- 'x' -}}\nb", "  {{ 1 }}  \n  {# comment #}\n  d", "x {#- c -#} y", "  {%+ if true %}a{% endif +%}\nb", "{% if true %}\n\n\na{% endif %}\n\n",
    "line\n\n", "line\r\nnext\rlast\r\n", "{% raw %}{{ x }}{% if %}{% endraw %}|", "  {%- raw -%}  {{ y }}  {%- endraw -%}  |", "a\n   {% raw %}\n b{% endraw %}\nc", "{{ '}}' }}{{ \"%}\" }}{# {{ x }} #}", "{% set x = 1 %}   {% set y = 2 %}\n{{ x }}{{ y }}",
    "text\n    {%- for i in [1, 2] %}\n        {{- i }}\n    {%- endfor %}\nend", "{%- set x = 1 -%}\n\n  {{ x }}\n\t{%- if x %}\n\ty{% endif %}", "\t{# c #}\t{% if 1 %}z{% endif %}", "{{1}}{{-1}}{{ -1 }}", "a {{+ 1 }}", "{%if true%}x{%endif%}", "{#-#}x", "x{#- a -#}\n\n y\n", "{{ 1 -}}  \n  {{- 2 }}\n{{ 3 }}")
# Syntax errors.
add("{{", "{{ 1", "{% if %}{% endif %}", "{% if 1 %}", "{% endif %}", "{{ 1 + }}", "{{ 'a }}", "{# x", "{% raw %}x", "{{ a b }}", "{% for x in %}{% endfor %}", "{% nosuchtag %}", "{{ (1 }}", "{{ ] }}", "{{ a..b }}", "{{ f(a=1, 2) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{{ $ }}", "{% for 1 in x %}{% endfor %}", "{{ {1: } }}", "{{ x is }}", "{{ 1 if }}", "{% set = 1 %}", "{% if 1 %}{% else %}{% else %}{% endif %}", "{{ }}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{{ x is defined is none }}", "{% for x in [1] %}{% endif %}")
