#!/usr/bin/env python3
"""check.py BINARY [ID...]: converts every case with `BINARY convert` and compares (see
README.md)."""

import gzip, json, os, pathlib, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent


def cases():
    for path in sorted((HERE / "hand").glob("*.json")):
        yield json.loads(path.read_text("utf-8"))
    for name in ("templates-1", "templates-2", "auto", "packs"):
        with gzip.open(HERE / f"{name}.ndjson.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                yield {**json.loads(line), "packs": name == "packs"}


def object_info(packs=False):
    """The recorded /object_info; with `packs` also the classes of custom packs."""
    names = ["object_info.json.gz"] + ["packs_object_info.json.gz"] * packs
    return {
        k: v
        for name in names
        for k, v in json.loads(gzip.decompress((HERE / name).read_bytes())).items()
    }


def plain(value):
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, list):
        return [plain(x) for x in value]
    return {k: plain(v) for k, v in value.items()}


def comparable(graph, ignore=(), titles=None):
    out = {}
    for node, body in graph.items():
        entry = {
            "class_type": body.get("class_type"),
            "inputs": {
                k: plain(v) for k, v in body["inputs"].items() if f"{node}.{k}" not in ignore
            },
        }
        if (titles or graph).get(node, {}).get("_meta", {}).get("title") is not None:
            entry["title"] = body.get("_meta", {}).get("title")
        out[node] = entry
    return out


def same_up_to_ids(a, b):
    """Whether a one-to-one renaming of ids turns graph a into graph b. Small graphs only."""
    if len(a) != len(b):
        return False

    def is_link(v, graph):
        return isinstance(v, list) and len(v) == 2 and isinstance(v[0], str) and v[0] in graph

    def fits(x, y, names):
        if (
            a[x]["class_type"] != b[y]["class_type"]
            or a[x]["inputs"].keys() != b[y]["inputs"].keys()
        ):
            return False
        for key, v in a[x]["inputs"].items():
            w = b[y]["inputs"][key]
            if is_link(v, a) != is_link(w, b):
                return False
            if is_link(v, a):
                if v[1] != w[1] or (v[0] in names and names[v[0]] != w[0]):
                    return False
            elif v != w:
                return False
        return True

    def search(left, names):
        if not left:
            return all(fits(x, y, names) for x, y in names.items())
        x = left[0]
        return any(
            search(left[1:], {**names, x: y})
            for y in b
            if y not in names.values() and fits(x, y, names)
        )

    return search(list(a), {})


def difference(case, graph):
    ignore, want = set(case.get("ignore", ())), case["expect"]["prompt"]
    a, b = comparable(want, ignore), comparable(graph, ignore, want)
    if case.get("free_ids"):
        return None if same_up_to_ids(a, b) else "not the same graph, whatever the ids"
    for node in sorted(a.keys() | b.keys()):
        if node not in b:
            return f"node {node} ({a[node]['class_type']}) is missing"
        if node not in a:
            return f"node {node} ({b[node]['class_type']}) should not be there"
        for part in ("class_type", "title"):
            if a[node].get(part) != b[node].get(part):
                return f"node {node}: {part} is {b[node].get(part)!r}, want {a[node].get(part)!r}"
        x, y = a[node]["inputs"], b[node]["inputs"]
        for key in sorted(x.keys() | y.keys()):
            if x.get(key, "(none)") != y.get(key, "(none)") or (key in x) != (key in y):
                return (
                    f"node {node} ({a[node]['class_type']}).{key}: {y.get(key, '(none)')!r}, "
                    f"want {x.get(key, '(none)')!r}"
                )
    return None


def main():
    binary, only = sys.argv[1], set(sys.argv[2:])
    bad = total = 0
    with tempfile.TemporaryDirectory() as tmp:
        file = os.path.join(tmp, "workflow.json")
        infos = {packs: os.path.join(tmp, f"object_info_{packs}.json") for packs in (False, True)}
        for packs, path in infos.items():
            pathlib.Path(path).write_text(json.dumps(object_info(packs)), "utf-8")

        def convert(path, packs):
            return subprocess.run(
                [binary, "convert", path, "--object-info", infos[packs]],
                capture_output=True,
                text=True,
                timeout=60,
            )

        work = [(c["id"], c, None) for c in cases()]
        work += [
            (name, {"expect": {"prompt": graph}}, HERE / "media" / name)
            for name, graph in json.loads((HERE / "media/expected.json").read_text("utf-8")).items()
        ]
        for name, case, path in work:
            if only and name not in only:
                continue
            total += 1
            if path is None:
                path = file
                pathlib.Path(file).write_text(json.dumps(case["workflow"]), "utf-8")
            done = convert(str(path), case.get("packs", False))
            error = case["expect"].get("error")
            if error:
                says = done.stderr + done.stdout
                wanted = [
                    x[k] for x in error.get("unknown_nodes", ()) for k in ("id", "class_type")
                ] + error.get("mentions", [])
                why = (
                    None
                    if done.returncode == 1 and all(w in says for w in wanted)
                    else f"exit {done.returncode}, want an error naming {wanted}"
                )
            elif done.returncode:
                why = f"exit {done.returncode}: {done.stderr.strip()[-200:]}"
            else:
                why = difference(case, json.loads(done.stdout))
            if why:
                bad += 1
                print(f"{name}: {why}")
    print(f"{total - bad} of {total} right")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
