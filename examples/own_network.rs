//! A network of your own: bottleneck blocks, in which 1×1 convolutions narrow the images for a 3×3 one (He, Zhang, Ren and Sun,
//! "Deep residual learning for image recognition", 2016, figure 5, right). Registered, it is a backbone like the built-in ones,
//! for every method; both engines run it, and this program has the whole command line.
//!
//!     cargo run --release --example own_network -- run examples/own_network.yaml

use std::process::ExitCode;

use fewlabel::data::CHANNELS;
use fewlabel::network::registry::{Fault, read, register};
use fewlabel::network::{Backbone, BackboneKind, Layer, Layers};
use serde::{Deserialize, Serialize};

static BOTTLENECK: BackboneKind =
    BackboneKind { name: "bottleneck", keys: &["widths", "narrow"], read: read::<Bottleneck> };

/// Its keys in an experiment: the channels of each block, which halves the side, and how many times fewer are inside.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Bottleneck {
    widths: Vec<usize>,
    narrow: usize,
}

impl Default for Bottleneck {
    fn default() -> Bottleneck {
        Bottleneck { widths: vec![64, 128], narrow: 4 }
    }
}

/// A convolution with batch norm; what other stages take over has names that begin with `backbone.`.
fn conv(name: &str, [inputs, outputs]: [usize; 2], kernel: usize, stride: usize) -> Layers {
    let conv = Layer::Conv { inputs, outputs, kernel, stride, bias: false };
    let norm = Layer::BatchNorm { channels: outputs };
    vec![(format!("backbone.{name}"), conv), (format!("backbone.{name}_norm"), norm)]
}

impl Backbone for Bottleneck {
    fn layers(&self, side: usize) -> Result<Layers, Fault> {
        let relu = || (String::new(), Layer::Relu);
        let (narrow, halved) = (self.narrow, side >> self.widths.len());
        if narrow == 0 || self.widths.iter().any(|&width| width == 0 || width % narrow != 0 || width > 1024) {
            let why = format!("narrow: {narrow} does not divide all widths, numbers from 1 to 1024");
            return Err(Fault::new("narrow", why));
        }
        if self.widths.is_empty() || halved < 2 {
            return Err(Fault::new("widths", format!("widths: {} blocks of images of side {side}", self.widths.len())));
        }
        let mut inputs = self.widths[0];
        let mut layers = conv("stem", [CHANNELS, inputs], 3, 1);
        layers.push(relu());
        for (i, &outputs) in self.widths.iter().enumerate() {
            let inside = outputs / narrow;
            let mut body = conv(&format!("{i}.in"), [inputs, inside], 1, 1);
            body.push(relu());
            body.extend(conv(&format!("{i}.middle"), [inside, inside], 3, 2));
            body.push(relu());
            body.extend(conv(&format!("{i}.out"), [inside, outputs], 1, 1));
            let shortcut = conv(&format!("{i}.shortcut"), [inputs, outputs], 1, 2);
            layers.extend([(String::new(), Layer::Residual { body, shortcut }), relu()]);
            inputs = outputs;
        }
        layers.push((String::new(), Layer::MeanPool));
        Ok(layers)
    }
}

fn main() -> ExitCode {
    register(&BOTTLENECK).expect("a name of its own");
    fewlabel::cli::main()
}
