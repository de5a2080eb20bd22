//! The seal at the end of a page: of which manifests the report is, and the SHA-256 of each of its files. The last thing in
//! it is that of every byte of the page before.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::run::Run;
use super::whole::is_name;
use crate::files::{self, unique};

/// Of a file of a report, in bytes, at most: a larger one is none.
const LARGEST: u64 = 1 << 28;

const OPEN: &str = "<script type=\"application/json\" id=\"seal\">";
const HASH: &str = ",\"sha256\":\"";
const CLOSE: &str = "\"}</script>\n</html>\n";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Version of this program.
    pub fewlabel: String,
    pub runs: Vec<Sealed>,
    /// Whether the report has every figure that its runs could give.
    pub whole: bool,
    /// SHA-256 of every other file of the report, by name.
    #[serde(deserialize_with = "unique")]
    pub files: BTreeMap<String, String>,
}

/// A run of the report.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    pub name: String,
    /// Of the manifest's bytes.
    pub manifest_sha256: String,
    /// Keys of the stages whose test accuracy was computed again.
    pub recomputed: Vec<String>,
}

impl Sealed {
    pub fn of(run: &Run) -> Sealed {
        let Run { name, manifest_sha256, recomputed, .. } = run;
        Sealed { name: name.clone(), manifest_sha256: manifest_sha256.clone(), recomputed: recomputed.clone() }
    }
}

impl Seal {
    /// Ends a page with the seal.
    pub fn close(&self, page: &mut String) {
        // No tag begins in it.
        let json = serde_json::to_string(self).expect("strings").replace('<', "\\u003c");
        *page += OPEN;
        *page += json.strip_suffix('}').expect("an object");
        *page += HASH;
        *page += &files::sha256(page.as_bytes());
        *page += CLOSE;
    }

    /// The seal of a page; none where it has none or any byte of the page is another.
    pub fn of(page: &[u8]) -> Option<Seal> {
        let rest = page.strip_suffix(CLOSE.as_bytes())?;
        let (body, hash) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        if files::sha256(body).as_bytes() != hash {
            return None;
        }
        let (_, json) = std::str::from_utf8(body).ok()?.rsplit_once(OPEN)?;
        let seal: Seal = serde_json::from_str(&format!("{}}}", json.strip_suffix(HASH)?)).ok()?;
        seal.files.keys().all(|name| is_name(name)).then_some(seal)
    }
}

/// The bytes of a file of a report; none for a link, or anything else that is no file of that size.
pub fn read(path: &Path) -> Option<Vec<u8>> {
    path.symlink_metadata().ok().filter(|metadata| metadata.is_file())?;
    files::read(path, LARGEST).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn seal(names: &[(&str, &str)]) -> Seal {
        let recomputed = vec!["seed-0/a".to_owned()];
        let run = Sealed { name: "</script>".to_owned(), manifest_sha256: files::sha256(b"{}"), recomputed };
        let files = names.iter().map(|(name, bytes)| (name.to_string(), files::sha256(bytes.as_bytes()))).collect();
        Seal { fewlabel: "0".to_owned(), runs: vec![run], whole: true, files }
    }

    #[test]
    fn every_bit_of_a_page_is_under_its_seal() {
        let seal = seal(&[("accuracy.svg", "a"), ("results.csv", "b")]);
        let mut page = "<title>fewlabel: t</title>\n".to_owned();
        seal.close(&mut page);
        assert_eq!(page.matches("</script>").count(), 1, "no name ends it: {page}");
        let page = page.into_bytes();
        assert_eq!(Seal::of(&page), Some(seal));
        for at in 0..page.len() {
            for bit in 0..8 {
                let mut other = page.clone();
                other[at] ^= 1 << bit;
                assert_eq!(Seal::of(&other), None, "bit {bit} of byte {at}");
            }
            assert_eq!(Seal::of(&page[..at]), None, "the first {at} bytes");
        }
    }

    #[test]
    fn a_seal_names_no_file_that_a_report_cannot_have() {
        for name in
            ["../a.svg", "a/b.svg", ".svg", "manifest.json", "weights.safetensors", "a b.svg", "a\u{202e}.png", ""]
        {
            let mut page = String::new();
            seal(&[(name, "a")]).close(&mut page);
            assert_eq!(Seal::of(page.as_bytes()), None, "{name}");
        }
    }
}
