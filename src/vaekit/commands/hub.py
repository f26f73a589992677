"""The verbs that share models on the Hugging Face Hub and fetch them."""

from __future__ import annotations

from vaekit.commands.arguments import Parser
from vaekit.export.hub import pull, push
from vaekit.records import print_json


def push_verb(parser: Parser, words: list[str]) -> None:
    parser.model()
    parser.add_argument("name", metavar="NAME", help="where to, as owner/model")
    parser.add_argument("--private", action="store_true", help="keep a repository that is made to yourself")
    parser.add_argument(
        "--no-figures", action="store_true", help="leave out the run's figures, which show images of its data"
    )
    parser.json("where the model is")
    options = parser.read(words)
    record = push(options.run, options.name, options.private, not options.no_figures)
    if options.json:
        print_json(record)
    else:
        print(record["url"])


def pull_verb(parser: Parser, words: list[str]) -> None:
    parser.add_argument("name", metavar="NAME", help="which model, as owner/model")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to make")
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit [the newest]")
    parser.json("where the model is")
    options = parser.read(words)
    file = pull(options.name, options.out, options.revision)
    if options.json:
        print_json({"model": str(file)})
    else:
        print(file)
