"""Small templates, one a line of behaviour, for make_golden.py."""

SNIPPET_INPUTS = {
    "n": 7,
    "f": 2.5,
    "s": "Hello, W\u00f6rld! \u4f60\u597d",
    "words": ["banana", "Apple", "cherry", "apple"],
    "nums": [3, 1, 2],
    "d": {"b": 2, "a": 1, "C": None, "t": [1, {"x": "y'\"z"}]},
    "people": [
        {"name": "Zoe", "age": 30, "tags": ["x"]},
        {"name": "adam", "age": 25, "tags": []},
        {"name": "Bob", "age": 30},
    ],
    "none_value": None,
    "yes": True,
    "html": "<a href='x'>&</a>",
    "big": 18446744073709551615,
    "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}],
    "fancy": "stra\u00dfe \u01c6 \u03a3\u039f\u03a6\u039f\u03a3 \ufb01n \U0001f600 e\u0301",
    "lines": "one\n\n  two\r\nthree\n",
}

# Expressions, each printed by itself.
EXPRESSIONS = r"""
1 + 2 * 3 - 4
7 // 2, -7 // 2, 7 // -2, -7 % 3, 7 % -3, -7 % -3
7 / 2, 6 / 3, 1 / 3
2 ** 10, 2 ** -1, 2 ** 0.5, -2 ** 2, 2 ** 3 ** 2
7.5 // 2, -7.5 // 2, 7.5 % -2, -0.0, 0.1 + 0.2
1e16, 1e15, 123456789012345680.0, 1e-4, 1e-5, 1.0, 1e300 * 1e10, -1e300 * 1e10
100000000000000000000 * 3, big + 1
0x1F, 0b101, 0o17, 1_000_000, 1e3, 2.5e-3, 1_0.5
true, True, false, none, None
true + 1, true * 3, -true, +true, not 3
"a" ~ 1 ~ 2.0 ~ none ~ true ~ [1]
"a" + "b" * 3, 3 * "ab", "x" * -1, [1] * 2, [1] + [2], (1,) + (2,)
"%s and %d and %5.2f|%-5s|%05d|%x|%r|%%" % ("a", 3, 3.14159, "b", 42, 255, "q")
"%s" % "x", "%s" % [1, 2], "%(a)s-%(b)s" % {"a": 1, "b": 2}
"%+d % d %e %g %G %o %c %c" % (5, 5, 12345.678, 0.00001, 1e20, 8, 65, "z")
"%5s|%.2s|%-6d|%06.1f" % ("ab", "abcdef", 42, -3.14159)
1 < 2 < 3, 1 < 3 < 2, 1 == 1.0 == true, "a" < "b" <= "b", [1, 2] < [1, 3]
1 in [1, 2], 3 not in [1, 2], "ell" in s, "a" in d, "z" not in d
1 and 2, 0 or "x", "" or [] or none, not none, 1 and "" or "z"
"yes" if n > 3 else "no", "only" if n < 3, ("a" if yes else "b") ~ "c"
s[0], s[-1], s[7:12], s[::-1], s[-2:], s[:5:2], s[100:], s[5:2]
nums[0], nums[-1], nums[1:], nums[::-1], nums[:-1], nums[5:], nums[-5:2]
(1, 2, 3)[1:], range(10)[2:5]|list, range(5)[-1]
d["a"], d.a, d.get("zz"), d.get("zz", 5), d["t"][1]["x"], d.t.1.x
d.items()|list, d.keys()|list, d.values()|list, d|length
d, words, (1,), (), [], {}, [none, true, 1.5, "it's", 'say "x"', 'both \' and "']
"tab\tnl\n\\ \x41 \u00e9 \u4f60 \101 \q"|string|list|length
["tab\t", "nl\n", "\\", "\x07", "\u00e9", "\u200b", "\ud7ff", "\U0001f600"]
undefined_thing, undefined_thing is defined, undefined_thing|default("x"), undefined_thing ~ "z"
undefined_thing == other_thing, undefined_thing == none, undefined_thing|length, undefined_thing|list
d.zz, d.zz is undefined, none_value is none, none_value, d["zz"]|default("dd")
""|default("e"), ""|default("e", true), none|default("n"), none|default("n", true), 0|d(5, boolean=true)
s|length, s|upper, s|lower, s|title, s|capitalize, s|reverse
s.upper(), s.lower(), s.title(), s.capitalize(), s.swapcase()
fancy|upper
fancy|lower
fancy|title, fancy.title()
fancy|capitalize, fancy|length
"  x y  "|trim, "xxayxx"|trim("x"), "  l".lstrip(), "r  ".rstrip() ~ "|", "abcab".strip("ab")
"\u00a0\u3000 x \u2003"|trim, "\u00a0a\u2003b".split()
"a,b,,c".split(","), "a  b c".split(), " a b ".split(" "), "a,b,c".split(",", 1), "a b c".split(none, 1)
"a,b,c".rsplit(",", 1), "a b c ".rsplit(maxsplit=1), "abc".split("x"), "".split(), "".split(",")
"one--two--three".partition("--"), "one--two--three".rpartition("--"), "x".partition("-"), "x".rpartition("-")
lines.splitlines(), lines.splitlines(true), "a\x0bb\x1cc\u2028d".splitlines()
s.startswith("Hell"), s.endswith("好"), s.startswith(("x", "H")), s.startswith("W", 7), "abc".endswith("b", 0, 2)
s.find("W"), s.find("好"), s.find("zz"), s.rfind("l"), s.index("W"), s.count("l"), "aaa".count("aa"), "abc".count("")
"a-b-c".replace("-", "+"), "a-b-c".replace("-", "+", 1), "aaa"|replace("a", "b", 2), "abc".replace("", "."), 123|replace(2, "x")
"abc".removeprefix("a"), "abc".removesuffix("c"), "abc".removesuffix("x")
"ab".center(7, "*"), "abc".center(6), "ab".ljust(4) ~ "|", "ab".rjust(4), "-42".zfill(6), "x"|center(5)
"{} {}".format(1, "a"), "{1} {0}".format("a", "b"), "{x}-{y:>5}|{z:05.1f}".format(x=1, y="r", z=2.345)
"{:,}".format(1234567), "{:x} {:#x} {:b} {:o}".format(255, 255, 5, 8), "{!r}".format("q"), "{{}}".format(), "{:^7}|{:*<5}|{:+}".format("m", 1, 2)
"{0[a]} {1.b}".format(d, d), "{:.3}".format("abcdef"), "{:.2%}".format(0.256), "{:e}".format(12345.6789)
"a".join(["x", "y"]), "-".join("abc"), ", ".join(d)
"abc".isalpha(), "ab1".isalnum(), "12".isdigit(), "1.2".isdigit(), " ".isspace(), "".isspace(), "A".isupper(), "aB".islower()
"Ab Cd".istitle(), "abc".isidentifier(), "\u00b2".isdigit(), "\u00b2".isdecimal(), "a\n".isprintable(), "\u00e9".isascii()
"a\tb".expandtabs(4), "AbC".casefold()
words|join(", "), words|join, [1, 2.5, none, true]|join("|"), people|join("/", attribute="name"), "abc"|join("-")
words|sort, words|sort(case_sensitive=true), words|sort(reverse=true), nums|sort, nums|sort(true)
people|sort(attribute="age,name")|map(attribute="name")|list, people|sort(attribute="age", reverse=true)|map(attribute="name")|list
words|unique|list, words|unique(true)|list, people|unique(attribute="age")|map(attribute="name")|list
words|first, words|last, []|first, nums|min, nums|max, nums|sum, people|sum(attribute="age"), nums|sum(start=10), words|max, []|max
people|map(attribute="name")|list, people|map(attribute="tags.0")|list, people|map(attribute="zz", default="-")|join(",")
words|map("upper")|list, words|map("replace", "a", "4")|join(" "), nums|map("string")|list, ["a b", "c d"]|map("truncate", 3, true, "")|list
nums|select|list, nums|select("odd")|list, nums|reject("greaterthan", 2)|list, [0, 1, "", "x"]|select|list, words|select("in", ["Apple"])|list
people|selectattr("age", "equalto", 30)|map(attribute="name")|list, people|selectattr("tags")|list|length, people|rejectattr("tags", "defined")|list
people|selectattr("name", "==", "Bob")|first, people|selectattr("tags", "undefined")|map(attribute="name")|list
people|groupby("age")
people|groupby("name")|map(attribute="grouper")|list, people|groupby("age")|map("last")|map("length")|list
words|groupby(0)|map("first")|list
d|items|list, d|dictsort, {"b": 1, "A": 2}|dictsort(true), {"b": 1, "A": 2}|dictsort(by="value", reverse=true)
[1, 2, 3, 4, 5]|batch(2)|list, [1, 2, 3]|batch(2, "-")|list, range(7)|slice(3)|list, range(4)|slice(3, "x")|list
nums|reverse|list, "abc"|reverse, d|reverse|list, nums|list is sequence
d|tojson, d|tojson(indent=2), words|tojson, "é\n\"<&>'/\\\x01"|tojson, [1.0, 1e20, true, none]|tojson
d|tojson(sort_keys=true), d|tojson(indent=0), {}|tojson(indent=2), []|tojson(indent=2), [[], {}]|tojson(indent=1)
d|tojson(ensure_ascii=true), s|tojson(ensure_ascii=true), "\U0001f600\x7f"|tojson(true), d|tojson(separators=(",", ":")), d|tojson(indent="--")
{1: 2, none: 3, true: 4, 1.5: 5}|tojson, (1, 2)|tojson, big|tojson, -5|tojson, 0.1|tojson
"42"|int, "42.9"|int, "x"|int, "x"|int(5), 3.9|int, -3.9|int, "0x1f"|int(base=16), "ff"|int(0, 16), true|int, none|int, " 7 "|int, "1_000"|int
"1.5"|float, "x"|float, 3|float, "1e3"|float, "inf"|float, " -2.5 "|float, none|float(1.0), "nan"|float
42.55|round, 42.55|round(1), 2.5|round, 3.5|round, 42|round, 1234|round(-2), 42.55|round(1, "floor"), 42.51|round(0, "ceil"), 1250|round(-2), 2.675|round(2)
-5|abs, 5.5|abs, -2.5|abs, true|abs
"a\nb\n\nc"|indent, "a\nb"|indent(2, true), "a\n\nb"|indent(2, blank=true), "a\nb"|indent(">> ")
"foo bar baz qux"|truncate(9), "foo bar baz qux"|truncate(9, true), "foo bar baz qux"|truncate(11), "foo bar baz qux"|truncate(11, false, "...", 0)
"one two  three"|wordcount, "a b&c/d"|urlencode, {"a b": 1, "c": "d&e"}|urlencode
html|e, html|escape, html|safe, "<"|safe + "<", "<" + html|safe, html|e|e, html|forceescape
"%s-%s"|format("a", 1), "%(x)s"|format(x=3)
n is odd, n is even, n is divisibleby 7, n is divisibleby(2), n is number, f is float, n is integer, true is integer, true is number
s is string, d is mapping, nums is iterable, nums is sequence, d is sequence, none is none, 3 is not none, s is iterable, 3 is iterable
true is boolean, 1 is boolean, true is true, 1 is true, false is false, "a" is lower, "A" is upper, "1" is lower
n is eq 7, n is ne 7, n is gt(3), n is lt 3, n is ge 7, n is le 7, n is greaterthan 8, 1 is in [1, 2], n is == 7
range is callable, n is callable, d.items is callable, "upper" is filter, "odd" is test, "nope" is filter, none is sameas none, true is sameas true
range(3)|list, range(1, 4)|list, range(10, 0, -3)|list, range(3), range(1, 9, 2), range(0)|list, range(3)|length, 2 in range(3)
dict(a=1, b=2), dict({"x": 1}, y=2), dict([("k", "v")]), dict(d, a=9)
namespace(a=1).a, namespace({"x": 2}).x, namespace(a=1).zz is defined
(1, 2, 3)|list, (1), (1,)|length, 1, 2
[1, [2, [3]]], {"a": {"b": {"c": 1}}}.a.b.c, [[1, 2], [3]]|map("first")|list, [[1, 2], [3]]|sum(start=[])
"a" "b" 'c', "it's", 'say "hi"', "back\\slash"
n|string ~ "x", [1, 2]|string, d|string|length, 1.0|string, true|string
[3, 1]|sort|first, -n|abs, -7|abs, n|default(1) + 2, (n + 1)|string + "!"
words[0][0]|upper + words[0][1:], (words|first)[1:3], ("a,b"|upper).split(",")
nums.index(2), nums.count(1), (1, 2).index(2), d.copy() == d, nums == [3, 1, 2], nums != [1], d == {"a": 1}
people|map(attribute="age")|sum / people|length
not true == false, not (1 == 2), 1 + 2 == 3 and not false
{"a": 1}["a"], {"a": 1,}, [1, 2,], {1: "x", (1, 2): "y"}[(1, 2)], {"a": 1, "a": 2}
1.5 is float, 1 == 1.0, 1 is sameas 1, "1" == 1, [] == (), none == false, {} == {}
d|attr("items") is callable, d|attr("a") is defined, s|attr("upper") is callable
d.__class__, s.__class__.__mro__ is defined
"x".__class__
(0.1).is_integer(), (2.0).is_integer(), 5|float|string
"ÀÉ".lower(), "ß".upper(), "ß".title(), "ŉ"|upper, "İ".lower()|length, "ΑΣ".lower(), "Σ".lower(), "ΑΣ Β".lower()
strftime_now("%Y-%m-%d"), strftime_now("%d %b %Y"), strftime_now("%A, %B %d, %Y %H:%M:%S %j %p %I %y %a")
5 // 0
5 % 0
1 / 0
none + 1
"a" + 1
1 + "a"
[1] + (2,)
"a" < 1
none < 1
undefined_thing.x
undefined_thing + 1
undefined_thing()
undefined_thing[0]
undefined_thing|int
d.zz.y
d["zz"]["y"]
nums.append(4)
d.update({"a": 2})
d.pop("a")
nums|join(1, 2, 3, 4)
3|length
3 in 4
1 in "a"
none|length
none|list
3|list
"abc"|tojson(1, 2, 3, 4, 5)
undefined_thing|tojson
range(3)|tojson
d.items()|tojson
{[1]: 2}
words|sort|sum
[1, "a"]|sort
"%d" % "x"
"%s %s" % "x"
"%s" % (1, 2)
"{} {}".format(1)
"x".index("y")
"x".split("")
n()
s()
"a".join([1])
nums.nope()
raise_exception("No: " ~ n)
raise_exception()
"x"|nope
"x" is nope
range(1000000)
namespace(_x=1)
namespace(1)
nums[1.5], nums["x"], none_value.x, none_value["x"], n.x, 5[0], d[0], nums[99]
nums[1:2:0]
"a" * 2.5
-"a"
"a"|round
"a"|abs
nums|first|first
people|map|list
people|selectattr|list
people|sort(attribute="zz")
words|batch
[1, 2, 3]|last, "abc"|last, "abc"|first, {"a": 1}|first, {"a": 1}|last, nums|map("abs")|first
nums|map("abs")|last
nums|map("abs")|length
nums|map("abs")|list|length, (nums|map("abs") and "truthy"), nums|select("gt", 9)|list
"a,b"|list, d|list, s[:2]|list, nums|string|list|length
"abc"[1], "abc"[-4] is defined, "abc"[5] is defined, ""[0] is defined
1 if true else 2 if false else 3, (1 if false) is defined, (1 if false else none) is none
[x for x in nums]
lambda x: x
d.get("a", default=3)
d.get()
"x".replace("a")
[1, 2]|map("nope")|list
words|map("upper", "x")|list
{"x": none}.x|default("d"), {"x": none}.x is none, ({}.x)|default("q")
3.0|int, 1e3|int, 10 ** 20, 7 // 2.0, 2 ** 3.0, 1e2|string
[[3, "c"], [1, "a"]]|sort, [(2, 1), (1, 2)]|sort, [true, false]|sort, [1.5, 1]|sort
"Hello"|list|reverse|join, "x" in ["x"] == true, 1 < 2 == true
"é" < "z", "Z" < "a", "a" == "a ", "10" < "9"
"{:>{}}".format("x", 5), "{:{w}.{p}f}".format(3.14159, w=8, p=2), "{:s}".format("q"), "{:d}".format(3), "{:5}|{:<5}|".format(3, 3)
"%*d" % (5, 3)
"%.3s|%10.3f|%-10s|%i" % ("abcdef", 2.71828, "hi", 9.99)
cycler is defined, joiner is defined, loop is defined, caller is defined
messages is defined, tools is defined, add_generation_prompt
"""

# Whole templates.
STATEMENTS = [
    "plain text\n",
    "a\n\n",
    "a\r\nb\rc\n",
    "{{ 1 }}\n{{ 2 }}\n",
    "  {% if true %}\n  x\n  {% endif %}\n y",
    "  {%- if true %}\n  x\n  {%- endif %}\n y",
    "  {%+ if true %}\n  x\n  {%+ endif +%}\n y",
    "a {{- 1 -}} b {{ 2 }} c",
    "a {#- comment -#} b {# c #}\nd\n  {# e #}\nf",
    "{{ '{{' }} {% raw %}{{ x }} {% if %}{% endraw %}\nz",
    "x\n  {%- raw -%}  \n {{ y }} \n {%- endraw -%}  \n z",
    "  {% raw %}\n a {% endraw %}\n b",
    "{{ {'a': {'b': 1}} }}{{ {'a': {'b': 1}}.a.b }}",
    "{%- for x in nums -%}\n {{ x }},\n{%- endfor -%}",
    "{% for x in nums %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.index0 }}{{ loop.revindex0 }};{% endfor %}",
    "{% for x in nums %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.cycle('a', 'b') }} {{ loop.changed(x > 1) }};{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}{% for x in undefined_thing %}x{% else %}none{% endfor %}",
    "{% for x in none_value %}x{% endfor %}",
    "{% for x in 3 %}x{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for c in s %}{{ c }}.{% endfor %}",
    "{% for x in nums if x > 1 %}{{ x }}{{ loop.length }}{{ loop.last }}{% else %}e{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% else %}e{% endfor %}",
    "{% for x in nums %}{% for y in nums %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for i in tree recursive %}{{ i.v }}@{{ loop.depth }}({{ loop(i.c) }}){% endfor %}",
    "{% for i in nums %}{{ loop(nums) }}{% endfor %}",
    "{% set x = 1 %}{% for i in nums %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% for i in nums %}{{ x }}{% set x = i %}{{ x }};{% endfor %}{{ x }}",
    "{% set ns = namespace(x=0, l=[]) %}{% for i in nums %}{% set ns.x = ns.x + i %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.x }}{{ ns.l }}{{ ns }}",
    "{% set ns = {} %}{% set ns.x = 1 %}",
    "{% set ns.x = 1 %}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% if false %}{% set q = 1 %}{% endif %}{{ q is defined }}{% if true %}{% set q = 2 %}{% endif %}{{ q }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set (e, g) = nums[:2] %}{{ e }}{{ g }}",
    "{% set a, b = [1] %}",
    "{% set x %}block {{ n }}{% set inner = 5 %}{% endset %}[{{ x }}]{{ inner is defined }}",
    "{% set x | upper | replace('L', '1') %}hello {{ n }}{% endset %}{{ x }}",
    "{% filter upper %}hello {{ s }}{% endfilter %}{% filter replace('a', 'b')|upper %}aaa{% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% set c = 3 %}{{ c }}{% endwith %}{{ a is defined }}{{ c is defined }}",
    "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z is defined }}",
    "{% with a = 1, b = a %}{{ b }}{% endwith %}",
    "{% macro m(a, b=2, c=a) %}{{ a }}-{{ b }}-{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(a=5, c=6) }}{{ m() }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}{{ m(*nums) }}{{ m(**{'a': 9, 'z': 1}) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body {{ n }}{% endcall %}",
    "{% macro m(x) %}{% for i in x %}{{ caller(i, loop.index) }}{% endfor %}{% endmacro %}{% call(i, k) m(nums) %}<{{ i }}:{{ k }}>{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
    "{% macro fact(k) %}{% if k <= 1 %}1{% else %}{{ k * fact(k - 1)|int }}{% endif %}{% endmacro %}{{ fact(10) }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 5 %}{{ m() }}{{ m.name }}{{ m.arguments }}",
    "{% macro m() %}{% set y = 1 %}{{ y }}{% endmacro %}{{ m() }}{{ y is defined }}",
    "{% macro m() %}<b>{% endmacro %}{{ m()|upper }}{{ m() ~ m() }}{{ m() is string }}{{ m() == '<b>' }}",
    "{% for i in nums %}{% macro g() %}{{ i }}{% endmacro %}{{ g() }}{% endfor %}{{ g is defined }}",
    "{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %}{% if not n %}x{% elif n == 7 %}seven{% endif %}",
    "{% if nums %}l{% endif %}{% if {} %}d{% endif %}{% if '' %}s{% endif %}{% if 0.0 %}f{% endif %}{% if undefined_thing %}u{% endif %}{% if none %}n{% endif %}",
    "{% generation %}said {{ n }}{% set g = 1 %}{% endgeneration %}{{ g is defined }}",
    "a\n{%- generation -%}\n x \n{%- endgeneration -%}\nb",
    "{% print n, 'x' %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
    "{% set j = joiner('|') %}{% for x in nums %}{{ j() }}{{ x }}{% endfor %}{{ joiner()() }}",
    "{% set l = nums %}{% set nums = [9] %}{{ l }}{{ nums }}",
    "{% set range = 5 %}{{ range }}",
    "{% set loop = 5 %}{{ loop }}",
    "{% for loop in nums %}{{ loop }}{% endfor %}",
    "{% for x in nums %}{{ x }}{% endfor %}{{ x is defined }}{{ loop is defined }}",
    "{% set it = nums|map('abs') %}{{ it|list }}{{ it|list }}",
    "{% set it = d|items %}{% for k, v in it %}{{ k }}{% endfor %}{% for k, v in it %}{{ k }}{% endfor %}",
    "{% for p in people|selectattr('age', 'ge', 30)|sort(attribute='name') %}{{ p.name }}{{ loop.index }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{{ 'a' if n is odd and yes else 'b' }}{{ n is odd or false }}{{ not n is even }}",
    "{% if 'x' is defined and n in [7] and s.startswith('H') %}ok{% endif %}",
    "{%- set a = 'x' -%}   {{- a -}}   \n",
    "{{ nums|length > 2 and words[0] == 'banana' }}",
    "{{- '\\n' -}}{{ \"a\\tb\" }}{{ '\\x41\\u4f60' }}",
    "{%- if a is not defined -%}{%- set a = [] -%}{%- endif -%}{{ a }}",
    "{{ [1,\n2,\n  3] }}\n{% set x = {\n 'a': 1,\n} %}{{ x }}",
    "{% for message in people -%}\n  {{ message['name'] -}}\n{%- endfor %}\n",
    "line {{ undefined_thing.a.b }}",
    "{% for x in nums %}{% endfor",
    "{% if true %}",
    "{{ 1 ",
    "{% endif %}",
    "{% nope %}",
    "{{ }}",
    "{% set %}",
    "{{ 1 +* 2 }}",
    "{{ (1 }}",
    "{{ 'abc }}",
    "{# never closed",
    "{% raw %} never",
    "{% break %}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% set none = 1 %}",
    "{% set 'a' = 1 %}",
    "{{ a b }}",
    "{{ 1 is 2 }}",
    "{{ x|'a' }}",
    "{{ f(a=1, 2) }}",
    "{{ nums[1 }}",
    "{{ @ }}",
    "{% if false %}{{ 1|nope }}{% endif %}{{ 1 if true else 2|nope }}ok",
    "{% for x in [] %}{{ 1|nope }}{% endfor %}",
    "{{ 1 if false else 2|nope }}",
    "{%set x=1%}{%if x%}y{%endif%}{{x}}",
    "{{ '}}' }}{{ '%}' }}{% if '%}' %}z{% endif %}",
    "{ { } } {a} {-} {{ '{%' }} %} }} #}",
    "{{ 5.0 }} {{ 1.10 }} {{ -0.5 }} {{ 1e100 }} {{ 123456.789e3 }}",
    "{{ d }} {{ people[0] }} {{ (none, true, 'x') }}",
    "{%- macro walk(t, depth=0) -%}{%- for x in t -%}{{ '  ' * depth ~ x.v }}\n{{ walk(x.c, depth + 1) }}{%- endfor -%}{%- endmacro -%}{{ walk(tree) }}",
    "{% set ns = namespace(found=false) %}{% for x in nums %}{% if x == 1 %}{% set ns.found = true %}{% break %}{% endif %}{% endfor %}{{ ns.found }}",
    "{% for x in 'ab' %}{% for y in 'cd' %}{{ loop.index }}{{ x }}{{ y }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% set f = '{}'.format %}{{ f(1) }}{% set g = s.upper %}{{ g() }}",
]

SNIPPETS = ["{{ " + line + " }}" for line in EXPRESSIONS.strip().split("\n")] + STATEMENTS
