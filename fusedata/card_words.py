"""What the counts of a funnel are called on the Chinese card. Pure."""

import re

from fusedata.card_rules import cell

_WORDS = {
    "rows read": "读取的行",
    "prompts": "提示",
    "turns out of order": "轮次顺序错误",
    "empty prompt": "提示为空",
    "in an earlier corpus": "已在前面的语料中",
    "not taken": "未取用",
    "over the limit": "超出上限",
    "near duplicate": "近似重复",
    "no gold answer": "无标准答案",
    "no tests": "无测试",
    "conflicting gold answers": "标准答案相互矛盾",
    "conflicting tests": "测试相互矛盾",
    "gold answer does not verify": "标准答案无法校验",
    "solution does not pass its tests": "参考解答未通过其测试",
    "no response": "无回答",
    "screened out": "被筛除",
    "unjudged": "未能判断",
    "no correct response": "无正确回答",
    "no incorrect response": "无错误回答",
    "not scored": "未打分",
    "no response of the target": "目标模型无回答",
    "identical texts": "文本相同",
    "reward prefers the wrong one": "奖励偏向错误者",
    "gap too large": "奖励差过大",
    "gap too small": "奖励差过小",
    "truncated": "截断",
    "refusal": "拒答",
    "repetition": "重复",
    "too short": "过短",
    "too long": "过长",
    "language": "语言",
}
_FORMS = (
    (re.compile(r"no row: (.+)"), "未成行：{}"),  # noqa: RUF001 - Chinese
    (re.compile(r"SFT and no pair: (.+)"), "有 SFT 行而无偏好对：{}"),  # noqa: RUF001 - Chinese
    (re.compile(r"response screened out: (.+) \(responses\)"), "筛除的回答数：{}"),  # noqa: RUF001 - Chinese
    (re.compile(r"in benchmark (.+)"), "与评测基准 {} 重合"),
    (re.compile(r"(.+) \(rows\)"), "{}（行）"),  # noqa: RUF001 - Chinese
    (re.compile(r"language (.+)"), "语言 {}"),
    (re.compile(r"topic (.+)"), "主题 {}"),
)


def in_chinese(label: str) -> str:
    """Give what a count of the funnel is called in Chinese; as it is, fit for a cell, where none is known."""
    if label in _WORDS:
        return _WORDS[label]
    for form, said in _FORMS:
        if found := form.fullmatch(label):
            return said.format(in_chinese(found[1]))
    return cell(label)
