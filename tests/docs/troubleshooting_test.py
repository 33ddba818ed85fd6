# SPDX-License-Identifier: Apache-2.0
"""Compares the messages in the source with docs/troubleshooting.md, both ways.

A message is the format string of a status or a warning. In the page it stands as code at the beginning of a table row,
shortened as one likes: `…` stands for anything, and the rest has to be in the message as it is. Not asked for:

  * what an entry point says about one argument, "tuttiX: ARGUMENT is ...": it names the cause and the remedy itself
  * what a reader says about a file, "FILE:LINE: ...": it names the place
  * internal errors, which the page treats as one
  * the operating system's refusals (errno_status), which the page explains by their number
  * messages that only pass another on ("{}")
"""
import pathlib
import re
import sys

CALLS = re.compile(r"\b(invalid_argument|invalid_usage|system_error|remote_error|error|log_warn|Status)\s*\(")
FOLDERS = ("src", "transports", "topology")
# Only tools and tests reach these, with an author of schedules in front of them; or they define the functions above.
# topology/draw answers the tool's options.
NOT_FOR_USERS = ("src/exec/sim/sim_lane", "src/exec/sim/prove", "topology/formats/", "topology/draw/", "src/base/status.h",
                 "src/base/log.h", "src/base/format.cc")
LEAST_LETTERS = 4  # of an entry, so that no entry matches everything


def arguments(text, start):
    """The string literals of a call, as (nesting, position, end, content), and its text."""
    depth, at, literals = 1, start, []
    while depth and at < len(text):
        char = text[at]
        if text.startswith('R"(', at):
            end = text.index(')"', at) + 2
            literals.append((depth, at, end, text[at + 3:end - 2]))
            at = end
            continue
        if char == '"':
            end = at + 1
            while text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            literals.append((depth, at, end + 1, text[at + 1:end].replace('\\"', '"').replace("\\n", "\n")))
            at = end + 1
            continue
        if text.startswith("'", at):  # a character, perhaps a bracket
            at = text.index("'", at + (2 if text[at + 1] == "\\" else 1) + 0) + 1
            continue
        depth += char in "([{"
        depth -= char in ")]}"
        at += 1
    return literals, text[start:at]


def messages_of(path, text):
    text = re.sub(r"//[^\n]*", lambda comment: " " * len(comment.group()), text)
    for call in CALLS.finditer(text):
        literals, whole = arguments(text, call.end())
        if call.group(1) in ("error", "Status") and "Code::InternalError" in whole:
            continue
        message, last = "", None
        for depth, begin, end, content in literals:
            if depth > 1 and not (call.group(1) == "Status" and depth == 2):
                continue
            if last is not None and text[last:begin].strip():
                break  # the next argument
            message, last = message + content, end
        message = re.sub(r"\{[^{}]*\}", "…", message)
        if not re.search(r"[A-Za-z]{3}", message):
            continue
        if path.startswith(("src/api/", "src/group/", "src/nccl/")) and re.match(r"(…|(tutti|nccl)\w+): ", message):
            continue
        yield message, text.count("\n", 0, call.start()) + 1


def entries_of(page):
    for number, line in enumerate(page.splitlines(), 1):
        row = re.match(r"\| (`.*?`(?:, `.*?`)*) \|", line)
        if row:
            for entry in re.findall(r"`(.*?)`", row.group(1)):
                yield entry, number


def pattern_of(entry):
    return re.compile(".*".join(re.escape(part) for part in entry.split("…")), re.DOTALL)


def main():
    root = pathlib.Path(sys.argv[1])
    page = (root / "docs/troubleshooting.md").read_text()
    entries = [(entry, pattern_of(entry), line) for entry, line in entries_of(page)]
    problems, used, count = [], set(), 0
    for entry, _, line in entries:
        if len(re.sub(r"[^A-Za-z]", "", entry)) < LEAST_LETTERS:
            problems.append(f"docs/troubleshooting.md:{line}: `{entry}` is too short to mean one message")
    for folder in FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            name = file.relative_to(root).as_posix()
            if file.suffix not in (".cc", ".h") or name.startswith(NOT_FOR_USERS):
                continue
            for message, line in messages_of(name, file.read_text()):
                count += 1
                found = {entry for entry, pattern, _ in entries if pattern.search(message)}
                used |= found
                if not found:
                    problems.append(f"{name}:{line}: not in docs/troubleshooting.md: {message}")
    problems += [f"docs/troubleshooting.md:{line}: no message is `{entry}`" for entry, _, line in entries
                 if entry not in used]
    print("\n".join(problems + [f"{count} messages, {len(entries)} entries, {len(problems)} problems"]))
    return 1 if problems or not count else 0


if __name__ == "__main__":
    sys.exit(main())
