#!/usr/bin/env python3
"""Makes tests/golden/grammar/schemas.json: JSON schemas, texts, and which of them fit by the Python package jsonschema.

A text marked narrow fits, but is never written: members out of the schema's order, members that it does not name, more
digits or another form of a number or format than the grammar has.
Run: python tests/reference/make_schema_cases.py
"""
import json
import pathlib

import jsonschema

OUT = pathlib.Path(__file__).resolve().parent.parent / "golden" / "grammar" / "schemas.json"
OBJECT = {"type": "object", "additionalProperties": False}
NARROW = "narrow: "


def case(name, schema, *texts):
    return {"name": name, "schema": schema, "texts": list(texts)}


def closed(required=True, **properties):
    schema = dict(OBJECT, properties=properties)
    return dict(schema, required=list(properties)) if required else schema


LINKED = {"$defs": {"node": closed(value={"type": "integer"}, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})},
          "$ref": "#/$defs/node"}
MATH = closed(steps={"type": "array", "items": closed(explanation={"type": "string"}, output={"type": "string"})},
              final_answer={"type": "string"})
CASES = [
    case("string", {"type": "string"}, '"a"', '""', '"\\n\\u00e9é😀"', '"\\ud83d\\ude00"', '1', '"', '"a', 'a"', 'null', '"\n"',
         '"\\x"', '"\\ud83d"', '" "', NARROW + '"a" ', '"\\/"'),
    case("string lengths", {"type": "string", "minLength": 2, "maxLength": 4}, '"a"', '"ab"', '"abcd"', '"abcde"', '"éé"', '"é"',
         '"😀😀😀😀"', '"😀😀😀😀😀"', '"\\n\\n"', '"\\u0041"', '"\\ud83d\\ude00"'),
    case("minLength alone", {"type": "string", "minLength": 3}, '"ab"', '"abc"', '"abcdefghijklmnopqrstuvwxyz"'),
    case("maxLength 0", {"type": "string", "maxLength": 0}, '""', '"a"'),
    case("pattern anchored", {"type": "string", "pattern": "^[A-Z]{3}-\\d{2,4}$"}, '"ABC-12"', '"ABC-1234"', '"ABC-1"', '"ABC-12345"',
         '"xABC-12"', '"ABC-12x"', '"abc-12"', '""'),
    case("pattern anywhere", {"type": "string", "pattern": "b+c"}, '"abc"', '"bc"', '"bbbbc!"', '"b"', '"c"', '""', '"ac bc"'),
    case("pattern alternatives", {"type": "string", "pattern": "^(?:yes|no)$|^maybe"}, '"yes"', '"no"', '"maybe not"', '"yes!"', '"noo"'),
    case("pattern classes", {"type": "string", "pattern": "^[^a-c\\s][\\w.]*\\S?$"}, '"d"', '"a"', '" "', '"é_9."', '"x!"', '"xy zw"'),
    case("pattern escapes", {"type": "string", "pattern": "^\\\\\"\\/\\u00e9\\x41$"}, '"\\\\\\"/éA"', '"\\\\\\"/eA"', '"\\\\/éA"'),
    case("pattern lazy and groups", {"type": "string", "pattern": "^(a(b|c){2}?)+d*?$"}, '"abb"', '"abcacbdd"', '"ab"', '"d"'),
    case("pattern dot", {"type": "string", "pattern": "^.{2}$"}, '"ab"', '"é😀"', '"a"', '"abc"', '"a\\n"', '"a\\""'),
    case("integer", {"type": "integer"}, '0', '-7', '123456789012345678', '01', '+1', '1.5', '"1"', '-', '', '--1', '-0'),
    case("integer bounds", {"type": "integer", "minimum": -5, "maximum": 120}, '-6', '-5', '-1', '0', '9', '10', '99', '100', '119', '120',
         '121', '1000', '-50'),
    case("integer exclusive bounds", {"type": "integer", "exclusiveMinimum": 18, "exclusiveMaximum": 1000}, '18', '19', '999', '1000',
         '500', '20', '190', '0'),
    case("integer minimum alone", {"type": "integer", "minimum": 37}, '36', '37', '40', '99', '100', '123456', '3', '-40'),
    case("integer maximum alone", {"type": "integer", "maximum": -3}, '-3', '-2', '-30', '0', '3', '-1234'),
    case("integer uneven bounds", {"type": "integer", "minimum": 1.5, "maximum": 3.5}, '1', '2', '3', '4'),
    case("number", {"type": "number"}, '0', '-1.5', '2e8', '1E-7', '3.', '.5', '1.0e+10', 'NaN', 'Infinity', '1e', '00', '-0.0'),
    case("number bounds", {"type": "number", "minimum": 0, "maximum": 1}, '0', '1', '0.5', '0.0', '1.0001', '-0.1', '2', '0.999', '-1'),
    case("number open bounds", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100}, '0', '0.0', '0.01', '99.99', '100', '7',
         '100.1', '-3', '0.000'),
    case("number negative bounds", {"type": "number", "minimum": -2, "maximum": -1}, '-2', '-1', '-1.5', '-0.5', '-2.1', '1.5', '-1.0'),
    case("boolean", {"type": "boolean"}, 'true', 'false', 'True', '1', 'tru'),
    case("null", {"type": "null"}, 'null', 'nul', 'None', '0'),
    case("several types", {"type": ["integer", "string", "null"]}, '1', '"1"', 'null', 'true', '[]', '1.5'),
    case("enum", {"enum": ["red", "green", "blue", "reddish", 7, None, {"a": [1]}]}, '"red"', '"reddish"', '"redd"', '7', 'null', '{"a":[1]}',
         '"7"', '70', '"Red"'),
    case("enum with type", {"type": "string", "enum": ["a", "b", 1]}, '"a"', '"b"', '1', '"c"'),
    case("enum escapes", {"enum": ["a\"b", "ü", "\n"]}, '"a\\"b"', '"ü"', '"\\n"', '"u"'),
    case("const", {"const": "x"}, '"x"', '"y"', '"xx"'),
    case("object", closed(a={"type": "integer"}, b={"type": "string"}), '{"a":1,"b":"x"}', '{"a": 1, "b": "x"}', '{\n  "a": 1,\n  "b": "x"\n}',
         '{"a":1}', '{"b":"x"}', '{}', '{"a":1,"b":"x","c":2}', '{"a":"1","b":"x"}', '{"a":1,"b":"x",}', '{,"a":1}', NARROW + '{"b":"x","a":1}',
         '{"a":1 "b":"x"}', '{"a":1,"b":2}'),
    case("optional members", dict(OBJECT, properties={"a": {"type": "integer"}, "b": {"type": "integer"}, "c": {"type": "integer"},
                                                      "d": {"type": "integer"}}, required=["b"]),
         '{"b":1}', '{"a":1,"b":2}', '{"a":1,"b":2,"c":3,"d":4}', '{"b":2,"d":4}', '{"a":1}', '{"a":1,"c":3}', '{}', '{"b":1,}', '{"b":1,"d":1,"e":1}'),
    case("all optional", dict(OBJECT, properties={"a": {"type": "null"}, "b": {"type": "null"}}), '{}', '{ }', '{"a":null}', '{"b":null}',
         '{"a":null,"b":null}', '{"a":null,}', '{,"b":null}', '{"c":null}', '{\n}'),
    case("additional members", {"type": "object", "properties": {"id": {"type": "integer"}, "ab": {"type": "integer"}}, "required": ["id"],
                                "additionalProperties": {"type": "string"}},
         '{"id":1}', '{"id":1,"x":"y"}', '{"id":1,"ab":2,"abc":"y","a":"z","é":""}', '{"id":1,"x":2}', '{"x":"y"}', '{"id":1,"ab":"y"}',
         '{"id":1,"idx":"y","i":"q"}', '{"id":"1"}'),
    case("any members", {"type": "object"}, '{}', '{"a":[1,{"b":null}]}', '[]', '{"a"}', '{"a":}', 'null'),
    case("a map", {"type": "object", "additionalProperties": {"type": "integer"}}, '{}', '{"a":1,"b":2}', '{"a":"1"}'),
    case("members by default", {"type": "object", "properties": {"a": {"type": "integer"}}}, '{}', '{"a":1}', '{"a":"1"}',
         NARROW + '{"a":1,"b":2}'),
    case("required, not described", {"type": "object", "required": ["x"], "properties": {"a": {"type": "integer"}}}, '{"a":1,"x":[2]}', '{"x":null}',
         '{"a":1}', '{}'),
    case("no members", closed(), '{}', '{"a":1}', '{ }'),
    case("keys with escapes", closed(**{"a\"b": {"type": "null"}, "ü/~": {"type": "null"}}), '{"a\\"b":null,"ü/~":null}', '{"a":null,"ü/~":null}'),
    case("array", {"type": "array", "items": {"type": "integer"}}, '[]', '[1]', '[1,2]', '[1, 2 ]', '[ 1,\n2]', '[1,]', '[,1]', '["1"]', '[1', '1',
         '[1 2]', '[[1]]'),
    case("array limits", {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3}, '[]', '[true]', '[true,false]',
         '[true,true,true]', '[true,true,true,true]'),
    case("array of exactly one", {"type": "array", "items": {"const": 1}, "minItems": 1, "maxItems": 1}, '[1]', '[]', '[1,1]'),
    case("array without items allowed", {"type": "array", "maxItems": 0}, '[]', '[1]', '[ ]'),
    case("array of anything", {"type": "array"}, '[1,"a",null,[],{}]', '[]', '{}'),
    case("tuple", {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2},
         '["a",1]', '["a"]', '["a",1,2]', '[1,"a"]', '[]'),
    case("open tuple", {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}, "maxItems": 3},
         '[]', '["a"]', '["a",1]', '["a",1,2]', '["a",1,2,3]', '["a","b"]', '[1]'),
    case("nested arrays", {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 1}}, '[[1],[2,3]]', '[[]]', '[1]', '[]'),
    case("anyOf", {"anyOf": [{"type": "integer", "minimum": 10}, {"type": "string", "maxLength": 2}, closed(k={"type": "null"})]},
         '10', '9', '"ab"', '"abc"', '{"k":null}', '{}'),
    case("anyOf of like objects", {"anyOf": [closed(kind={"const": "a"}, x={"type": "integer"}), closed(kind={"const": "b"}, x={"type": "string"})]},
         '{"kind":"a","x":1}', '{"kind":"b","x":"1"}', '{"kind":"a","x":"1"}', '{"kind":"b","x":1}', '{"kind":"c","x":1}'),
    case("oneOf", {"oneOf": [{"type": "string"}, {"type": "boolean"}]}, '"a"', 'true', '1'),
    case("anyOf beside members", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
                                  "anyOf": [{"properties": {"b": {"type": "string"}}, "required": ["b"]},
                                            {"properties": {"c": {"type": "null"}}, "required": ["c"]}]},
         '{"a":1,"b":"x"}', '{"a":1,"c":null}', '{"a":1}', '{"b":"x"}', '{"a":1,"b":2}'),
    case("allOf", {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                             {"properties": {"b": {"type": "string"}, "a": {"minimum": 5}}, "required": ["b"]}]},
         '{"a":5,"b":"x"}', '{"a":4,"b":"x"}', '{"a":5}', '{"b":"x"}'),
    case("allOf that closes", {"allOf": [dict(OBJECT, properties={"a": {"type": "integer"}, "b": {"type": "integer"}}),
                                         {"properties": {"c": {"type": "integer"}, "b": {"maximum": 1}}}]},
         '{"a":1}', '{"b":1}', '{"b":2}', '{"c":1}', '{"a":1,"c":1}', '{}'),
    case("allOf of numbers", {"allOf": [{"type": "number", "minimum": 2}, {"type": "integer", "maximum": 4}]}, '1', '2', '4', '5', '2.5'),
    case("allOf of enums", {"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}]}, '1', '2', '3', '4'),
    case("$ref", {"$defs": {"name": {"type": "string", "minLength": 1}}, **closed(a={"$ref": "#/$defs/name"}, b={"$ref": "#/$defs/name"})},
         '{"a":"x","b":"y"}', '{"a":"","b":"y"}', '{"a":"x"}'),
    case("$ref beside keywords", {"$defs": {"n": {"type": "integer", "minimum": 1}}, "$ref": "#/$defs/n", "maximum": 3, "description": "d"},
         '0', '1', '3', '4', '"1"'),
    case("$ref with escapes", {"$defs": {"a/b~c": {"const": 1}}, "$ref": "#/$defs/a~1b~0c"}, '1', '2'),
    case("recursion", LINKED, '{"value":1,"next":null}', '{"value":1,"next":{"value":2,"next":null}}', '{"value":1}', '{"value":1,"next":2}',
         '{"value":1,"next":{"value":2,"next":null}', '{"value":1,"next":{"next":null,"value":2.5}}'),
    case("recursion of the root", closed(False, label={"type": "string"}, children={"type": "array", "items": {"$ref": "#"}}),
         '{"label":"a","children":[{"label":"b","children":[]},{}]}', '{"children":[1]}', '{}', '{"children":[{"children":[{"x":1}]}]}'),
    case("a form of OpenAI's", MATH, '{"steps":[{"explanation":"e","output":"o"}],"final_answer":"f"}', '{"steps":[],"final_answer":"f"}',
         '{"steps":[{"explanation":"e"}],"final_answer":"f"}', '{"final_answer":"f"}'),
    case("date", {"type": "string", "format": "date"}, '"2024-12-31"', '"2023-02-28"', '"2023-02-29"', '"2024-13-01"', '"2024-1-1"',
         '"2024-04-31"', '""', NARROW + '"2024-02-29"'),
    case("time", {"type": "string", "format": "time"}, '"23:59:59Z"', '"00:00:00.5+02:00"', '"24:00:00Z"', '"12:60:00Z"', '"12:00"'),
    case("date-time", {"type": "string", "format": "date-time"}, '"2024-06-01T12:00:00Z"', '"2024-06-01T12:00:00.123-05:30"', '"2024-06-01"',
         '"2024-06-01 12:00:00"', '"2024-06-31T12:00:00Z"'),
    case("uuid", {"type": "string", "format": "uuid"}, '"123e4567-e89b-12d3-a456-426614174000"', '"123e4567e89b12d3a456426614174000"',
         '"123e4567-e89b-12d3-a456-42661417400g"'),
    case("email", {"type": "string", "format": "email"}, '"a.b+c@example.org"', '"example.org"', NARROW + '"@"', '"a@b.co"'),
    case("ipv4", {"type": "string", "format": "ipv4"}, '"127.0.0.1"', '"255.255.255.255"', '"256.1.1.1"', '"1.2.3"', '"01.2.3.4"'),
    case("ipv6", {"type": "string", "format": "ipv6"}, '"2001:db8:0:0:0:0:2:1"', '"2001:db8"', NARROW + '"::1"', '"g::1"'),
    case("anything", {}, '1', '"a"', '{"a":[true]}', '[null]', '', 'x', '[1,2', '{"a":1,}'),
    case("true and false", closed(False, a=True, b=False), '{"a":1}', '{"a":[{}]}', '{}', '{"b":1}', '{"a":1,"b":2}'),
    case("annotations", {"title": "T", "description": "d", "type": "integer", "default": 3, "examples": [1], "$comment": "c", "x-own": 1}, '1', '"1"'),
    case("keywords of other types", {"type": "integer", "minLength": 3, "items": {"type": "string"}, "properties": {"a": {}}}, '1', '"abc"'),
    case("types by their keywords", {"minLength": 2}, '"ab"', '"a"', NARROW + '1'),
]


def fits(schema, text):
    try:
        value = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
        value_text_has_lone_surrogates = any(0xD800 <= ord(c) <= 0xDFFF for c in json.dumps(value, ensure_ascii=False))
    except ValueError:
        return False
    if value_text_has_lone_surrogates:
        return False
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    return jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid(value)


def main():
    out = []
    for one in CASES:
        jsonschema.Draft202012Validator.check_schema(one["schema"])
        texts = []
        for text in one["texts"]:
            narrow = text.startswith(NARROW)
            text = text.removeprefix(NARROW)
            valid = fits(one["schema"], text)
            assert valid or not narrow, (one["name"], text)
            texts.append({"text": text, "valid": valid} | ({"narrow": True} if narrow else {}))
        out.append({"name": one["name"], "schema": one["schema"], "texts": texts})
    OUT.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in out)
    OUT.write_text(f'{{"cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(out)} schemas, {sum(len(one['texts']) for one in out)} texts")


if __name__ == "__main__":
    main()
