//! Mistakes in experiment files, and where they are reported.

use super::*;
use crate::experiment::Experiment;

/// "line:column: message".
fn parse(text: &str) -> String {
    let error = Experiment::parse("".as_ref(), text).expect_err(text).to_string();
    error.trim_start_matches(':').to_owned()
}

const GOOD: &str = "name: t
dataset:
  name: synthetic
  train: 6000
stages:
  - name: a
    method: supervised
    epochs: 2
";

#[test]
fn every_mistake_has_its_line_and_a_remedy() {
    assert!(Experiment::parse("".as_ref(), GOOD).is_ok());
    let changed = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        parse(&GOOD.replacen(from, to, 1))
    };
    let cases = [
        ("  train: 6000", "  train: 6000\n  name: folder", "5:3: dataset: duplicate key `name`"),
        ("    epochs: 2", "    epochs: 2\n    method: probe", "9:5: stages[0]: duplicate key `method`"),
        ("    epochs: 2", "    epochs: 2\nname: u", "9:1: duplicate key `name`"),
        ("    epochs: 2", "    epochs: 2\n\"name\": u", "9:1: duplicate key `name`"),
        ("  - name: a", "  - {name: a,\n     name: b}\n  - name: c", "7:6: stages[0]: duplicate key `name`"),
        ("  name", "\tname", "3:1: the line is indented with a tab: YAML takes spaces only"),
        ("    method", "\tmethod", "7:1: the line is indented with a tab: YAML takes spaces only"),
        ("    method", "  \tmethod", "7:3: the line is indented with a tab: YAML takes spaces only"),
        ("synthetic", "\"synthetic", "3:9: the quote \" is not closed"),
        ("name: a", "name: 'a", "6:11: the quote ' is not closed"),
        ("name: t", "name: t\ndataset: {name: synthetic}]", "2:27: this bracket closes nothing"),
        ("    epochs: 2", "    claim: [60, 70", "8:12: the bracket [ is not closed"),
        ("name: a", "{name: a", "6:5: the bracket { is not closed"),
        ("name: a", "name: a]\n    labels: ]", "7:13: this bracket closes nothing"),
        ("    epochs: 2", "    claim: [60\n      70]\n    lr: [1 [2]]", "10:12: a comma is missing before this"),
        ("name: t", "name:t", "1:1: a space is missing after `name:`"),
        ("  name: s", "  name:s", "3:3: a space is missing after `name:`"),
        ("    method: s", "    method:s", "7:5: a space is missing after `method:`"),
        ("    epochs: 2", "    epochs:2", "8:5: a space is missing after `epochs:`"),
        ("  - name", "  -name", "6:3: a space is missing after `-`"),
        ("synthetic\n  train: 6000", "synthetic\n  train:6000", "4:3: a space is missing after `train:`"),
        (
            "  name: synthetic\n  train: 6000",
            "  - name: synthetic",
            "3:3: dataset: invalid type: list, expected a data set",
        ),
        ("  name: synthetic", "  - name: synthetic", "4:3: this is no entry of the list above: begin it with `- `"),
        ("  - name: a", "    name: a", "6:5: stages: invalid type: map, expected a list; each of its entries"),
        ("name: t", "name: t: u", "1:8: a `:` is not expected here: indent the line as its neighbours are"),
        ("  train", "   train", "4:9: a `:` is not expected here"),
        ("  train", " train", "4:2: this is not expected here"),
        ("name: a", "name: @a", "6:11: a value cannot begin with '@': put it in quotes"),
        ("name: a", "name: *a", "6:11: `*` and `&` begin an alias and an anchor"),
        ("name: a", "name: a\u{1}", "6:12: holds the control character U+0001: delete it"),
        ("  train", "\u{a0} train", "4:1: U+00A0 is no ordinary space: type one instead"),
        ("    epochs: 2", "    epochs: 2\n---\nname: u", "9:1: `---` begins a second document"),
        ("name: t", "# a\n---\nname: t\n---", "4:1: `---` begins a second document"),
        ("name: t", "name: t\n1: x", "2:1: unknown field `1`"),
        ("name: t", "name: t\n? [a]\n: x", "2:3: invalid type: list, expected a key"),
        ("name: t", "name: t\nepoch: 3", "2:1: unknown field `epoch`"),
    ];
    for (from, to, expected) in cases {
        let found = changed(from, to);
        assert!(found.starts_with(expected), "{to:?}: {found}");
    }
    // Where a key belongs, if not here.
    assert!(changed("name: t", "name: t\nbatch_size: 3").ends_with("; `batch` belongs to a stage"));
    assert!(changed("name: t", "name: t\nvalidation_split: 0").ends_with("; `validation` belongs to `labels`"));
    assert!(changed("    epochs", "    num_epochs").ends_with("; did you mean `epochs`?"));
    let long = changed("epochs: 2", &format!("epochs: {}x", "9".repeat(3000)));
    assert!(long.starts_with("8:13: stages[0].epochs: invalid type: string \"999") && long.len() < 200, "{long}");
    for nothing in ["", "\n\n", "# nothing\n# yet\n"] {
        assert!(parse(nothing).starts_with("1:1: is empty"), "{nothing:?}");
    }
}

/// An unknown key lists those that are known.
#[test]
fn every_home_has_the_keys_that_the_reader_knows() {
    let of = |from: &str, to: &str| parse(&GOOD.replacen(from, to, 1));
    let messages = [
        of("  train", "  xyzzy"),
        of("name: t", "name: t\nlabels: {xyzzy: 1}"),
        of("name: t", "name: t\nnetwork: {xyzzy: 1}"),
        // Before its method is read.
        of("  - name", "  - xyzzy: 1\n    name"),
    ];
    for (message, (home, keys)) in messages.iter().zip(homes()) {
        let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        // Names are everywhere; `predictor` and `labels` are keys of two parts.
        let shared = |key: &&str| ["name", "labels"].contains(key) || (*key == "predictor" && home == "a stage");
        let known: Vec<&str> = known.into_iter().filter(|key| !shared(key)).collect();
        assert_eq!(known, keys, "{home}: {message}");
    }
}

/// Of a stage whose method has been read, those of this method and of all; but for a key that only another method's is near.
#[test]
fn an_unknown_key_of_a_stage_lists_those_of_its_method() {
    let known = |key: &str| {
        let message = parse(&GOOD.replacen("    epochs", &format!("    {key}"), 1));
        let listed: Vec<String> = message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        let end = message.rsplit("; ").next().map(str::to_owned);
        (["label_smoothing", "epochs", "claim", "temperature"].map(|key| listed.iter().any(|known| known == key)), end)
    };
    assert_eq!(known("epoch"), ([true, true, true, false], Some("did you mean `epochs`?".to_owned())));
    assert_eq!(known("xyzzy").0, [true, true, true, false]);
    assert_eq!(known("temperatur"), ([true; 4], Some("did you mean `temperature`?".to_owned())));
}

#[test]
fn line_ends_and_a_byte_order_mark_change_nothing_and_other_encodings_are_named() {
    let good = Experiment::parse("".as_ref(), GOOD).unwrap();
    for text in [GOOD.replace('\n', "\r\n"), GOOD.replace('\n', "\r"), format!("\u{feff}{GOOD}")] {
        let text = decode(text.as_bytes()).unwrap();
        assert_eq!(Experiment::parse("".as_ref(), &text).unwrap(), good);
    }
    let utf16 = |mark: &[u8], of: fn(u16) -> [u8; 2]| {
        let bytes = [mark, &GOOD.encode_utf16().flat_map(of).collect::<Vec<u8>>()].concat();
        decode(&bytes).unwrap_err().message
    };
    let (little, big) = (u16::to_le_bytes, u16::to_be_bytes);
    for message in [utf16(b"\xff\xfe", little), utf16(b"\xfe\xff", big), utf16(b"", little), utf16(b"", big)] {
        assert_eq!(message, "is not text in UTF-8 but in UTF-16: save it as UTF-8");
    }
    let latin1: Vec<u8> = GOOD.replace("name: a", "name: \u{e9}").chars().map(|c| c as u8).collect();
    let Fault { line, column, message } = decode(&latin1).unwrap_err();
    assert_eq!((line, column), (6, 11));
    assert_eq!(message, "is not text in UTF-8: the byte 0xe9 is none of it; save it as UTF-8");
}

/// One mistake on each line of the experiments that there are is reported on that line.
#[test]
fn a_mistake_on_any_line_is_reported_there() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    let mut mistakes = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = code(line);
            let Some((before, after)) = code.split_once(": ") else { continue };
            let (indent, key) = before.split_at(before.rfind([' ', '{']).map_or(0, |at| at + 1));
            let open = code.find(['{', '[']).zip(code.rfind(['}', ']']));
            let changes = [
                Some(format!("{before}:{after}")),
                Some(format!("{indent}x{key}q: {after}")),
                Some(format!("{before}: \"{after}")),
                Some(format!("{code} \u{7}")),
                open.map(|(_, close)| format!("{}{}", &code[..close], &code[close + 1..])),
                line.starts_with(' ').then(|| format!("\t{code}")),
                code.trim()
                    .ends_with('}')
                    .then(|| format!("{}, name: z, name: z}}", code.trim_end().trim_end_matches('}'))),
                (indent.is_empty() && !after.trim().is_empty()).then(|| format!("{code}\n{code}")),
            ];
            for (kind, change) in changes.into_iter().enumerate().filter_map(|(kind, c)| Some((kind, c?))) {
                let mut changed: Vec<&str> = lines.clone();
                changed[number] = &change;
                let message = parse(&changed.join("\n"));
                // The second of two lines is the one too many.
                let expected = number + 1 + change.matches('\n').count();
                assert!(message.starts_with(&format!("{expected}:")), "{kind}: {change:?}, line {expected}: {message}");
                mistakes += 1;
            }
        }
    }
    assert!(mistakes > 500, "{mistakes}");
}
