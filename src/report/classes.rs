//! The accuracy of each class, where classes differ in size.

use std::fmt::Write;

use super::figure::Matrix;
use super::tested::Tested;
use crate::data::{ClassCount, Data};
use crate::text::visible;

/// The file with all of them.
pub const FILE: &str = "classes.csv";

/// Of one run: how many test images of each class its stages classify right.
pub struct PerClass {
    pub run: String,
    classes: Vec<ClassCount>,
    /// Each stage's name, and its right answers by label.
    stages: Vec<(String, Vec<u32>)>,
}

impl PerClass {
    /// From the confusion matrices of the run's stages; none where the classes of the test images have one size.
    pub fn of(run: &str, data: &Data, tested: &[Tested]) -> Option<PerClass> {
        let classes = data.class_counts();
        let mut sizes = classes.iter().map(|class| class.test).filter(|&size| size > 0);
        let first = sizes.next()?;
        let right = |matrix: &Matrix| matrix.counts.iter().enumerate().map(|(label, row)| row[label]).collect();
        let stages: Vec<_> = tested.iter().map(|tested| (tested.stage.clone(), right(&tested.matrix))).collect();
        let run = run.to_owned();
        (sizes.any(|size| size != first) && !stages.is_empty()).then_some(PerClass { run, classes, stages })
    }

    /// A line of heads, then one for each class: its name, its training and test images, each stage's accuracy.
    pub fn cells(&self) -> Vec<Vec<String>> {
        let heads = ["class", "training images", "test images"].into_iter();
        let heads = heads.chain(self.stages.iter().map(|(name, _)| &**name)).map(str::to_owned).collect();
        let row = |(label, class): (usize, &ClassCount)| {
            let top1 = |(_, right): &(String, Vec<u32>)| match class.test {
                0 => "-".to_owned(),
                test => format!("{:.1} %", 100.0 * f64::from(right[label]) / test as f64),
            };
            let facts = [class.name.clone(), class.train.to_string(), class.test.to_string()].into_iter();
            facts.chain(self.stages.iter().map(top1)).collect()
        };
        std::iter::once(heads).chain(self.classes.iter().enumerate().map(row)).collect()
    }
}

/// A line for each stage and class of the runs, after a line of heads.
pub fn csv(runs: &[PerClass]) -> String {
    let mut out = "run,stage,class,train,test,correct\n".to_owned();
    for PerClass { run, classes, stages } in runs {
        for (stage, right) in stages {
            for (ClassCount { name, train, test }, right) in classes.iter().zip(right) {
                let _ = writeln!(out, "{run},{stage},{},{train},{test},{right}", field(name));
            }
        }
    }
    out
}

/// As one field of a line (RFC 4180). A name that a spreadsheet would calculate gets an apostrophe before it, as people
/// write such text there.
fn field(text: &str) -> String {
    let sign = if text.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
    let text = format!("{sign}{}", visible(text));
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, SIDE};

    #[test]
    fn each_class_has_its_own_accuracy_where_they_differ_in_size() {
        let set = |labels: &[u16]| Dataset { images: vec![], labels: labels.to_vec(), side: SIDE };
        let classes = ["a", "b, \"c\"", "d"].map(str::to_owned).to_vec();
        let data = |test: &[u16]| Data { train: set(&[0, 0, 1, 2]), test: set(test), classes: classes.clone() };
        let counts = vec![vec![3, 1, 0], vec![2, 0, 0], vec![0, 0, 0]];
        let (stage, key) = ("baseline".to_owned(), "baseline".to_owned());
        let matrix = Matrix { classes: classes.clone(), counts };
        let tested = [Tested { stage, key, matrix, is_exact: true }];
        assert!(PerClass::of("r", &data(&[0, 0, 1, 1]), &tested).is_none(), "top-1 says it");
        assert!(PerClass::of("r", &data(&[0, 0, 0, 0, 1, 1]), &[]).is_none(), "nothing to tell of");
        let found = PerClass::of("r", &data(&[0, 0, 0, 0, 1, 1]), &tested).unwrap();
        let rows: Vec<String> = found.cells().iter().map(|row| row.join(" | ")).collect();
        let heads = "class | training images | test images | baseline";
        assert_eq!(rows, [heads, "a | 2 | 4 | 75.0 %", "b, \"c\" | 1 | 2 | 0.0 %", "d | 1 | 0 | -"]);
        let lines = "r,baseline,a,2,4,3\nr,baseline,\"b, \"\"c\"\"\",1,2,0\nr,baseline,d,1,0,0\n";
        assert_eq!(csv(&[found]), format!("run,stage,class,train,test,correct\n{lines}"));
    }

    #[test]
    fn a_name_is_one_field_and_no_formula() {
        assert_eq!(["cat", "a b", "猫"].map(field), ["cat", "a b", "猫"]);
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(field("a\r\nb\u{202e}"), r"a\r\nb\u{202e}");
        assert_eq!(["=1+1", "+1", "-1", "@x", "x=1"].map(field), ["'=1+1", "'+1", "'-1", "'@x", "x=1"]);
        assert_eq!(field("=HYPERLINK(\"a\",\"b\")"), "\"'=HYPERLINK(\"\"a\"\",\"\"b\"\")\"");
    }
}
