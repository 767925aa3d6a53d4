#!/usr/bin/env python3
"""Takes conversations of ShareGPT that every client uses as they are: two turns or more, a person first, prompt and answer
of a length that bench_serving's filter lets pass. Reads a file that is cut off as far as it goes.

usage: sharegpt_subset.py SHAREGPT.json COUNT OUT.json"""
import json
import sys


def whole_records(text):
    decoder, at = json.JSONDecoder(), text.index("[") + 1
    while True:
        while at < len(text) and text[at] in " \r\n\t,":
            at += 1
        try:
            record, at = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield record


def main(source, count, out):
    chosen = []
    for record in whole_records(open(source, encoding="utf-8").read(60_000_000)):
        turns = record.get("conversations", [])
        if len(turns) < 2 or turns[0]["from"] != "human" or turns[1]["from"] != "gpt":
            continue
        if 40 <= len(turns[0]["value"]) <= 1500 and 40 <= len(turns[1]["value"]) and turns[0]["value"].isascii():
            chosen.append({"id": record["id"], "conversations": turns[:2]})
        if len(chosen) == count:
            break
    json.dump(chosen, open(out, "w"))
    print(f"{len(chosen)} conversations")


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
