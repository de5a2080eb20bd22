//! Losses and their gradients, against those of an independent library, or written from the paper in PyTorch, in double precision.

use fewlabel::loss::{
    BarlowTwins, Cosines, NtXent, VicReg, VicRegWeights, aligned, barlow_twins, consistency, cross_entropy,
    negative_cosine, nt_xent, squared_softmax, supcon, vicreg,
};

use crate::fixture::{Fixture, magnitude};

/// Loss 1e-6 relative, gradients 1e-5 of the tensor's largest magnitude.
pub fn meets(fixture: &Fixture) {
    let of = |name: &str| fixture.parameters[name];
    let both = |name: &str| [1, 2].map(|view| fixture.f32s(&format!("{name}{view}"))).concat();
    // Twice, in the same memory: what a call leaves changes nothing.
    let twice = |loss: &mut dyn FnMut(&mut Vec<f32>) -> f64| {
        let mut gradient = vec![7.0; 3];
        let first = (loss(&mut gradient), gradient.clone());
        assert_eq!((loss(&mut gradient), &gradient), (first.0, &first.1));
        first
    };
    let rows = |name: &str| 2 * fixture.tensor(&format!("{name}1")).dims()[0];
    let (loss, gradients) = match fixture.case.as_str() {
        "loss-simclr" | "loss-simclr-cold" => {
            let mut memory = NtXent::default();
            let (loss, of_z) = twice(&mut |g| nt_xent(&both("z"), rows("z"), of("temperature"), &mut memory, g));
            (loss, views("z", of_z))
        }
        "loss-supcon" => {
            let (labels, mut memory) = (fixture.labels("labels"), NtXent::default());
            let (loss, of_z) = twice(&mut |g| supcon(&both("z"), &labels, of("temperature"), &mut memory, g));
            (loss, views("z", of_z))
        }
        "loss-barlow_twins" => {
            let mut memory = BarlowTwins::default();
            let (loss, of_z) = twice(&mut |g| barlow_twins(&both("z"), rows("z"), of("lambda"), &mut memory, g));
            (loss, views("z", of_z))
        }
        "loss-vicreg" => {
            let (invariance, variance, covariance, eps) = (of("lambda"), of("mu"), of("nu"), of("eps"));
            let (weights, mut memory) = (VicRegWeights { invariance, variance, covariance, eps }, VicReg::default());
            let (loss, of_z) = twice(&mut |g| vicreg(&both("z"), rows("z"), weights, &mut memory, g));
            (loss, views("z", of_z))
        }
        "loss-byol" => {
            let mut memory = Cosines::default();
            let (loss, of_p) = twice(&mut |g| negative_cosine(&both("p"), &both("z"), rows("p"), &mut memory, g, None));
            (loss, views("p", of_p))
        }
        "loss-fixmatch" | "loss-fixmatch-aligned" => {
            let [logits, weak, strong] = ["logits", "weak_logits", "strong_logits"].map(|name| fixture.f32s(name));
            let (n, mut of_logits, mut of_strong) = (fixture.tensor("weak_logits").dims()[0], vec![], vec![]);
            let labelled = cross_entropy(&logits, &fixture.labels("labels"), &mut of_logits).unwrap();
            let (mut means, mut of_weak) = (vec![], vec![]);
            let taught = match fixture.case.ends_with("aligned") {
                true => aligned(&weak, n, &mut means, &mut of_weak),
                false => &weak,
            };
            let (unlabelled, share) = consistency(taught, &strong, n, of("threshold"), &mut of_strong);
            assert_eq!(share, fixture.f64s("mask_share64")[0]);
            let gradients = vec![("logits".to_owned(), of_logits), ("strong_logits".to_owned(), of_strong)];
            (labelled + of("weight") * unlabelled, gradients)
        }
        "loss-pseudo_label" => {
            let [logits, others] = ["logits", "unlabelled_logits"].map(|name| fixture.f32s(name));
            let (n, weight) = (fixture.tensor("unlabelled_logits").dims()[0], of("weight"));
            let (mut of_logits, mut of_others) = (vec![], vec![]);
            let labelled = cross_entropy(&logits, &fixture.labels("labels"), &mut of_logits).unwrap();
            let (unlabelled, share) = consistency(&others, &others, n, of("threshold"), &mut of_others);
            assert_eq!(share, fixture.f64s("mask_share64")[0]);
            of_others.iter_mut().for_each(|g| *g *= weight as f32);
            let gradients = vec![("logits".to_owned(), of_logits), ("unlabelled_logits".to_owned(), of_others)];
            (labelled + weight * unlabelled, gradients)
        }
        "loss-mean_teacher" => {
            let [logits, student, teacher] =
                ["logits", "student_logits", "teacher_logits"].map(|name| fixture.f32s(name));
            let (n, weight, mut of_logits) = (fixture.tensor("student_logits").dims()[0], of("weight"), vec![]);
            let labelled = cross_entropy(&logits, &fixture.labels("labels"), &mut of_logits).unwrap();
            let (unlabelled, mut of_student) = twice(&mut |g| squared_softmax(&student, &teacher, n, g));
            of_student.iter_mut().for_each(|g| *g *= weight as f32);
            let gradients = vec![("logits".to_owned(), of_logits), ("student_logits".to_owned(), of_student)];
            (labelled + weight * unlabelled, gradients)
        }
        other => panic!("{}: no test for the case {other}", fixture.path.display()),
    };
    let expected = fixture.f64s("loss64")[0];
    assert!((loss - expected).abs() <= 1e-6 * expected.abs(), "{}: {loss}, not {expected}", fixture.path.display());
    for (name, gradient) in gradients {
        let theirs = fixture.f32s(&format!("grad/{name}64"));
        fixture.close(&name, &gradient, &theirs, 1e-5 * magnitude(&theirs));
    }
}

/// Both views' parts of a gradient, under their names.
fn views(name: &str, gradient: Vec<f32>) -> Vec<(String, Vec<f32>)> {
    let (first, second) = gradient.split_at(gradient.len() / 2);
    vec![(format!("{name}1"), first.to_vec()), (format!("{name}2"), second.to_vec())]
}
