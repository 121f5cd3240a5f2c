"""Whether a prompt is about code, mathematics or something else, English or Chinese: told by stated patterns."""

# ruff: noqa: E501, RUF001 - a pattern is read whole; Chinese punctuation is meant
import re
from typing import Final, Literal, NamedTuple

from fusedata.texts.words import HAN

Name = Literal["code", "math", "other"]


class Told(NamedTuple):
    """A topic, and what in the text told it ("" for "other")."""

    topic: Name
    by: str


_Patterns = tuple[tuple[int, re.Pattern[str]], ...]
_ENOUGH = 2
_CHARS, _CHINESE_CHARS = 2_000, 400
"""Characters that are looked at: what is wanted stands at the beginning or the end, and a long text holds many words."""
_CHINESE: Final = re.compile(rf"[{HAN}]{{4}}")

# Each pattern counts once; two points make a topic. Patterns worth one are words that have other meanings as well.
_ASKED = (
    r"(?:writ\w*|creat\w*|implement\w*|build\w*|develop\w*|fix\w*|debug\w*|modif\w*|refactor\w*|generat\w*|design\w*"
    r"|giv\w+|show\w*|provid\w*|mak\w+|complet\w+|optimi[sz]\w+|explain\w*|rewrite|convert\w*|translat\w+|code|need"
    r"|want|edit|construct|produce|example|how to|find)"
)
_THING = (
    r"(?:functions?|(?:the|this|that|my|following|some|sample|example|source|pseudo|below|skeleton|boilerplate|of)"
    r"[ -]?code|codes?(?=[ ,.:;?!]|$)|algorithms?|(?:unit )?tests? cases?|unit tests?|regex\w*|regular expressions?"
    r"|quer(?:y|ies)|schema|source code|data structures?|web ?(?:server|page|app\w*)|plugins?|middleware|endpoints?"
    r"|shaders?|makefile|compiler|kernel module|command[- ]line|smart contracts?|macros?)"
)
_LANGUAGES = (
    r"python\d?|pytorch|javascript|typescript|node\.?js|vue\d?|nextjs|svelte\w*|jquery|c\+\+|c#|\.net|vb\.?net|vba|vbs"
    r"|php|laravel|symfony|drupal|wordpress|golang|kotlin|haskell|ocaml|perl|shell ?script|powershell|matlab|fortran"
    r"|cobol|gdscript|mysql|postgres\w*|sqlite\d?|sql|nosql|mongodb|html5?|css|tailwind|xaml|django|fastapi|streamlit"
    r"|gradio|numpy|sklearn|scikit-learn|tensorflow|keras|huggingface|matplotlib|seaborn|kubernetes|kubectl|promql|nginx"
    r"|git|github|ffmpeg|awk|grep|cron|crontab|systemctl|opengl|glsl|hlsl|cuda|verilog|systemverilog|vhdl|cocotb|hls|nasm"
    r"|x86(?:-64)?|arduino|openxml|beautiful ?soup|pyqt\d?|pyside\d?|tkinter|jetpack compose|android studio|xcode"
    r"|autolisp|nix-shell|nixpkgs|swiftui|unity3d|godot|langchain|spring ?boot|lambda function|openai api|r code|r shiny"
    r"|svg|npm|odoo|ecmascript|onnx|jq|gams|tidyverse|ggplot2?|erlang|clojure|julia code|java ?stream|reactjs|docker\w*|bash|octave|jax|terraform|solidity|ethereum|roblox"
)
_HOMONYMS = (
    "react|angular|scala|lua|bootstrap|flask|pandas|sed|assembly|selenium|scrap(?:e|ing|er)|rust|gherkin|jest|elixir"
)
"""Tools that are other things as well (rust on a bike, pandas in a zoo), but not where they stand among Chinese."""
_MEANT = (
    r"\b(?:in|using|with|for) (?:React|Angular|Scala|Lua|Bootstrap|Flask|Pandas|Selenium|Rust|Jest|Elixir)\b"
    rf"|\b[Uu]s(?:e|ing) (?:{_HOMONYMS})\b|\b[Ii]n (?:pandas|lua|scala|react)\b"
    r"|\b(?i:scrap(?:e|ing|er)\b[^.!?\n]{0,30}\b(?:data|web\w*|sites?|pages?|urls?))"
    rf"|[{HAN}]{{2}} ?(?i:{_HOMONYMS})(?![a-z])|(?<![a-z])(?i:{_HOMONYMS}) ?[{HAN}]{{2}}"
)
_CODE: Final[_Patterns] = (
    (2, re.compile(r"^[ \t]*(?:```|~~~)[ \t]*(?!math|latex|text|markdown)\w+", re.MULTILINE)),
    (
        2,
        re.compile(
            r"\bdef \w+ ?\(|^[ \t]*import \w[\w.]*(?: as \w+)?;?[ \t]*$|\bfrom [\w.]+ import \w|#include ?[<\"]|\bconsole\.log\(|\bprintf?\([\"'\w]"
            r"|\bpublic (?:static|class|void)\b|\bfunction ?\w* ?\([^)]*\) ?\{|\bSELECT\b.{1,200}\bFROM\b|</(?:div|span|p|html|script|a|button)>"
            r"|\b(?:const|let|var) \w+ ?= ?|\bfn \w+\(|\bstd::|\bself\.\w|\w+\.\w+\([^)]{0,60}\);|<\?php|\bnp\.\w+\(|\bpd\.\w+\(|\bTraceback \(|\w+Exception\b|\bclass \w+(?:\(\w*\))?:|\breturn \w+;|^[ \t]*for \w+ in .+:[ \t]*$|for i in range",
            re.MULTILINE | re.DOTALL,
        ),
    ),
    (2, re.compile(rf"(?<![A-Za-z0-9_./-])(?:{_LANGUAGES})(?![A-Za-z0-9_+#])", re.IGNORECASE)),
    (1, re.compile(rf"(?<![A-Za-z0-9_./-])(?:{_HOMONYMS})(?![A-Za-z0-9_+#])", re.IGNORECASE)),
    (2, re.compile(_MEANT)),
    (1, re.compile(r"\b(?:json|yaml|xml|java|swift|ruby|scheme|excel|linux|ubuntu|unix|windows service|api|apis|in c|in r|in go|c code|sql\w*|dataframes?|repl|shell|terminal|github|csv|server|debug\w*|database|url|array)\b", re.IGNORECASE)),
    (1, re.compile(r"\b(?:program(?:ming|mer|s)?|coding|software|scripts?|app|application|class|code|compil\w+|runtime|library|module|package|method)\b", re.IGNORECASE)),
    (2, re.compile(rf"\b{_ASKED}\b[^.!?\n]{{0,70}}?\b{_THING}", re.IGNORECASE)),
    (2, re.compile(r"\b(?:write|create|make|develop|code|build)\b (?:me |us |up )?(?:an? |the )?(?:\w+ ){0,2}(?:programs?|scripts?) (?:that|to|which|for|in|using)\b(?! students| kids| a (?:video|film|play|movie|call))", re.IGNORECASE)),
    (1, re.compile(r"\bstruct\b|\bin R\b|\bJS\b|\bandroid\b|\bIP address|\btar\b|\bcolumns?\b|\bstrings?\b|\blist\b.*\b(?:element|sort|item)", re.IGNORECASE)),
    (2, re.compile(r"\b(?:for|while)[- ]loops?\b|\barr ?= ?\[", re.IGNORECASE)),
    (1, re.compile(r"\b(?:recursive\w*|recursion|binary (?:tree|search|array)|linked list|hash ?map|time complexity|leetcode|stdin|sub-?arrays?|nums)\b", re.IGNORECASE)),
    (2, re.compile(r"\bExample 1:.{0,400}\bInput:.{0,400}\bOutput:|(?<![A-Za-z])[A-Za-z]+\.?js(?![A-Za-z])", re.DOTALL | re.IGNORECASE)),
    (1, re.compile(r"前端|后端")),
    (2, re.compile(r"代码|编程|編程|程式碼|函数式|源码|脚本语言|正则表达式|爬虫|数据库查询|SQL|Python|Java(?!nese)|C\+\+|JavaScript|HTML|伪代码", re.IGNORECASE)),
    (
        2,
        re.compile(
            r"(?:编写|编辑|写|创建|构建|实现|生成|设计|开发|给出|修改|优化|调试|修复|提供|使用|用|寫|編寫)[^。！？\n]{0,24}?"
            r"(?:(?<!应用)程序|函数(?!图|的图|值)|算法|(?<=SQL)查询|脚本(?=来|实现|程序)|正则|代码|(?<!方)程式|函式|演算法|微型Web服务器|接口|类(?=，|。|$))"
        ),
    ),
    (1, re.compile(r"程序|数组|字符串|变量|编译|数据结构|链表|二叉树|递归|循环语句|服务器|标签")),
)  # fmt: skip

_NUMBER = r"(?:(?<![\w.])\$?\d[\d,.]*|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|twice|half|third|double|triple|quarter|[a-z]+teen|[a-z]+ty)\b)"
_ASKS = r"\b(?:how (?:many|much|long|far|old|fast|tall|wide|big|often|large|high|deep)|what (?:percent\w*|fraction|was|is|will|would|are|were)|find|calculate|determine|in how|at what|which day|who|what)\b"
_MATH: Final[_Patterns] = (
    (2, re.compile(r"\\(?:frac|sqrt|sum|int|prod|lim|binom|boxed|cdot|times|leq?|geq?|pi|theta|alpha|overline|angle|triangle|begin\{(?:p?matrix|align|cases|array))(?![a-z])")),
    (2, re.compile(r"\$[^$\n]{0,80}(?:[\^_=+<>\\]|\d+ ?[-*/] ?\d)[^$\n]{0,80}\$")),
    (1, re.compile(r"\$[A-Za-z0-9,()]{1,12}\$")),
    (
        2,
        re.compile(
            r"\b(?:derivative|integral|integrate|antiderivative|polynomial|quadratic|trigonometr\w+|logarithms?|eigenvalues?|matrix|determinant"
            r"|hypotenuse|isosceles|equilateral|parallelogram|prime factor\w*|greatest common (?:divisor|factor)|least common multiple"
            r"|arithmetic sequence|geometric sequence|(?:right|acute) triangle|irrational numbers?|epsilon-delta|principal ideal|continuous function"
            r"|square root|cube root|remainder when|divisors? (?:of|does|do)|multiples? of \d+|whole[- ]numbers?|odd function|even function|common fraction|simplest (?:radical )?form|arrange the letters|prime numbers?|surface area|regular (?:pentagon|hexagon|octagon|polygon)|positive integers?|probability (?:of|that)|how many ways|expected (?:value|number) of|slope[- ]intercept|rational approximation|confidence interval for the sum)\b",
            re.IGNORECASE,
        ),
    ),
    (
        2,
        re.compile(
            r"\b(?:solve|calculate|compute|evaluate|simplify|find|determine|what is|prove|factor|convert|express|round|add|subtract|multiply|divide|estimate|work out|area|perimeter|volume|average|mean|median|sum|product)\b"
            r"[^.!?\n]{0,90}?(?:[\dxyn)] ?[-+*/×÷^=] ?\(?[\dxyn]|\b(?:equations?|inequalit(?:y|ies)|perimeter|area of|volume of|circumference|radius|percent(?:age)? of|median of|mean of|average of|sum of|product of|hypotenuse|slope|prime numbers?|greatest|least|decimal)\b.{0,60}\d)",
            re.IGNORECASE,
        ),
    ),
    (2, re.compile(r"\A\W*(?:please )?(?:calculate|compute|solve|evaluate|simplify|add|subtract|multiply|divide|convert|determine|find)\b(?=.{0,80}\b(?:\d|total|average|angles?|equations?|celsius|fahrenheit|meters?|yards?|feet|miles|kilometers|pounds|kilograms?|ounces|inches|centimeters|sum|fractions?|root|percent\w*|mean|median|value)\b)(?=.{0,300}\d)", re.IGNORECASE | re.DOTALL)),
    (2, re.compile(r"\b(?:sum up|add up|compute|sum|total) (?:the|these|all)(?: \w+)? (?:numbers|sum)\b|\bcompute (?:their|the) \w+|\bto the power of\b|\braised to\b|\d+(?:\.\d+)?% of \$?\d|\b(?:plus|minus|times|divided by) \d", re.IGNORECASE)),
    (2, re.compile(r"\b(?:prove|proof) that\b|\bshow that\b.{0,80}[=<>≤≥$]|\bmath(?:s|ematics|ematical)? (?:questions?|problems?|puzzles?|equations?)\b|\bprove (?:the|by|or)\b|\bproof (?:of|by)\b.*\b(?:theorem|number|set)", re.IGNORECASE)),
    (1, re.compile(r"\b(?:solve|calculate|compute|simplify|prove|equations?|math\w*|arithmetic|algebra\w*|geometry|theorem|multiplication|subtraction|sum of|product of|value of)\b", re.IGNORECASE)),
    (1, re.compile(r"\b(?:perimeter|angles?|area|average|probability|percent\w*|fractions?|integers?|digits?|triangles?|circle|radius|rectangle|coordinates?|converge\w*|sequence|vertices|dice|nonempty|upper bound|speed|distance|interest rate|annual growth|annuity|compounded|degrees|divisible|random variable)\b", re.IGNORECASE)),
    (2, re.compile(rf"\A(?=.{{30,1200}}\Z)(?=(?:.*?{_NUMBER}){{2}}).*\bhow (?:many|much|long|far|old|fast|tall)\b[^?]*\?[^?]{{0,60}}\Z", re.IGNORECASE | re.DOTALL)),
    (2, re.compile(rf"\A(?=.{{30,1000}}\Z)(?=(?:.*?{_NUMBER}){{3}}).*{_ASKS}[^?]{{0,200}}\b(?:total|number of|averaged?|percent\w*|costs?|price|age|differen\w+|amount|area|ratio|profit|speed|time|distance|value|sum|fraction|rate|more|less|left|each|per|pay|worth|weigh\w*|length|height|salary|earn\w*|money|capacity|years|hours|minutes|days|score\w*|times)\b[^?]*[?.]\s*\Z", re.IGNORECASE | re.DOTALL)),
    (1, re.compile(rf"\A(?=.{{1,1200}}\Z)(?=(?:.*?{_NUMBER}){{2}}).*\bhow (?:many|much|long|far|old)\b", re.IGNORECASE | re.DOTALL)),
    (2, re.compile(r"\b[a-z]\(x\) ?=|\b\d*x(?:\^|²|\*\*)\d?|\b\d+ ?[x×*÷/] ?\d+ ?=|\d ?[+×÷*] ?\(?\d|\d [-/] \d+ ?=|\b\d*[a-zA-Z] ?[-+] ?\d+ ?=|\d!(?!!)|∑|∫|√|π|≤|≥")),
    (2, re.compile(r"方程|求导|导数|积分|微积分|概率是|概率为|概率[？?。]|几何(?:题|学题|图形|问题|证明)|三角形|斜率|平方根|因式分解|数学(?:问题|题|方程|应用题)|解答.{0,6}数学|求解方程|勾股|质因数|质数|公因数|公倍数|点积|进制数?(?=。|是|为|$)|等价分数|直线方程|总收入.{0,6}\d|\d.{0,14}总收入|多项式|等差|等比|行列式|矩阵的")),
    (2, re.compile(r"(?:计算|求|求出|算出|找到|确定)[^。！？\n]{0,30}?(?:面积|周长|体积|平均值|平均数|总和|之和|乘积|百分比|总价|总费用|费用|年薪|金额|的值|角度|半径|速度|利润|距离|余数|中位数|标准差)")),
    (2, re.compile(r"(?:将|把)\s*[\d.]+\s*\S{1,6}?(?:转换|换算|转化)|(?<!\d)(?!\d{4}年)[\d.]+\s*(?:小时|天|年|周|分钟|千克|公里|米|英里|克)[是有等]于?多少|(?:[\d.]+|[一二三四五六七八九十两百千]+)\s*[+×÷*]\s*[\d(（]")),
    (2, re.compile(r"\A(?=.{1,400}\Z)(?=.*?\d[\d.,]*(?![\d.,])\D+\d|(?:.*?[二三四五六七八九十两百]){2}.*(?:一共|总共|还剩|共有)).*(?:一共|总共|还剩|剩下|共有|平均每|多长时间|多少|几[个只本元颗]).{0,40}\s*\Z", re.DOTALL)),
    (2, re.compile(r"(?:计算|求|求出|找出|确定|算出)[^。！？]{0,40}(?:速度|加速度|角度|导数|距离).{0,40}\d", re.DOTALL)),
    (2, re.compile(r"(?:计算|求出|求下列|求\d|算出)[^。！？\n]{0,40}\d|\d+\s*(?:除以|乘以|乘|减去|加上)\s*\d|\d\s*的\s*\d+\s*次方|\d+\s*整除|数列|序列的下.{0,4}数|(?:总价|总和|总费用|总成本)[\s\S]*\d[\s\S]*\d")),
    (2, re.compile(r"(?:数字|用|答案[为是]|等于|和[为是])\s*\d+.{0,12}(?:生成数字|的?(?:数学)?方程|等式)|总和：?\s*\d|\d+\s*的\s*\d+\s*%")),
)  # fmt: skip


def topic(text: str) -> Told:
    """Tell the topic of a prompt: "code", "math" or "other".

    Code: a program, query, command or configuration is asked for or asked about. Mathematics: something is to be
    calculated, solved or proved. What is both (a program that calculates) is code.
    """
    most = _CHINESE_CHARS if _CHINESE.search(text[:_CHARS]) else _CHARS
    if len(text) > most:
        text = text[: most // 2] + "\n" + text[-most // 2 :]
    topics: tuple[tuple[Name, _Patterns], ...] = (("code", _CODE), ("math", _MATH))
    for name, patterns in topics:
        points, found = 0, list[str]()
        for worth, pattern in patterns:
            if match := pattern.search(text):
                points += worth
                found.append(match[0].strip()[:40])
            if points >= _ENOUGH:
                return Told(name, ", ".join(found))
    return Told("other", "")
