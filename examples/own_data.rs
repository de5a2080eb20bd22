//! A data set of your own: the digits of a dot-matrix display, 16 × 16 pixels, drawn by this program. Registered, it is a data
//! set like the built-in ones: this program has the whole command line, and its runs are resumed, verified and reported like any
//! other.
//!
//!     cargo run --release --example own_data -- data --set digits
//!     cargo run --release --example own_data -- run examples/own_data.yaml
//!
//! The first command prints the `dataset:` line that the experiment begins with. Its hash pins the images: a run on others is
//! refused.

use std::path::Path;
use std::process::ExitCode;

use fewlabel::data::{self, Data, Dataset, Kind};
use fewlabel::rng::Stream;

static DIGITS: Kind = Kind { name: "digits", title: "The digits of a dot-matrix display", load };

/// Any even number from 16 to 128.
const SIDE: usize = 16;
/// The dots of each digit: seven rows of five, the highest bit on the left.
const DOTS: [[u8; 7]; 10] = [
    [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
    [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
    [0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111],
    [0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110],
    [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
    [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
    [0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110],
    [0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000],
    [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
    [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100],
];

/// All images. A set in files is read here, from the folder that `--data-dir` names; this one needs none.
fn load(_folder: &Path) -> fewlabel::Result<Data> {
    let classes = (0..10).map(|digit: u32| digit.to_string()).collect();
    Ok(Data { train: draw(2000, 0), test: draw(500, 1), classes })
}

/// `n` images, digit after digit.
fn draw(n: u32, part: u16) -> Dataset {
    let mut set = Dataset { images: vec![], labels: vec![], side: SIDE };
    for index in 0..n {
        // From a constant, not from an experiment's seed: the images are always the same.
        let mut stream = Stream::own(0, part, 0, index);
        let digit = (index % 10) as usize;
        let [left, top] = [7, 3].map(|room| stream.below(room) as usize);
        for _channel in 0..3 {
            let [dark, light] = [(20, 60), (110, 60)].map(|(least, more)| least + stream.below(more));
            for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
                // A dot is two pixels wide and high.
                let row = y.checked_sub(top).and_then(|y| DOTS[digit].get(y / 2));
                let is_lit =
                    row.is_some_and(|row| (left..left + 10).contains(&x) && row >> (4 - (x - left) / 2) & 1 == 1);
                set.images.push((if is_lit { light } else { dark } + stream.below(80)) as u8);
            }
        }
        set.labels.push(digit as u16);
    }
    set
}

fn main() -> ExitCode {
    data::register(&DIGITS).expect("a name of its own");
    fewlabel::cli::main()
}
