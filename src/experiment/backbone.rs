//! The backbone of an experiment's networks, where it is not the study's.

use serde::{Deserialize, Serialize};

use super::NetworkSpec;
use super::defaults::{Conflict, Misread, read_settings};
use super::value::Channels;
use crate::engine::cpu;
use crate::network::{Backbone, BackboneKind, Layers, Network, Widths};
use crate::settings::{Settings, strict};
use crate::suggest::did_you_mean;

/// A backbone and its settings: `{name: resnet, depth: 20, width: 16}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a backbone: {name: …}")]
pub struct BackboneSpec {
    /// Which.
    pub name: &'static BackboneKind,
    /// The backbone's own keys.
    #[serde(flatten, deserialize_with = "strict")]
    pub settings: Settings,
}

impl BackboneSpec {
    /// Its layers, for images of that side.
    ///
    /// # Panics
    /// For settings that the backbone does not have. One that was read from a file has none.
    pub fn layers(&self, side: usize) -> Layers {
        let (backbone, _) = (self.name.read)(self.settings.clone()).expect("checked when the experiment was read");
        backbone.layers(side).ok().expect("checked when the experiment was read")
    }

    /// The backbone, and its settings filled in.
    fn complete(&mut self) -> Result<Box<dyn Backbone>, Conflict> {
        let BackboneKind { name, keys, read } = *self.name;
        if let Some(key) = self.settings.keys().find(|key| !keys.contains(&&***key)) {
            let known: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            let message = format!("network.backbone: {name} has no key `{key}`, but {}", known.join(", "));
            return Err(Conflict::new(&["network", key], message + &did_you_mean(key, keys.iter().copied())));
        }
        match read_settings(&self.settings, read) {
            Ok((backbone, complete)) => {
                self.settings = complete;
                Ok(backbone)
            }
            Err(Misread { at, message }) => {
                let within = if at.is_empty() { vec!["backbone"] } else { at.iter().map(String::as_str).collect() };
                let at = [&["network"], &within[..]].concat();
                Err(Conflict::new(&at, format!("network.backbone: {message}")))
            }
        }
    }
}

impl NetworkSpec {
    /// Fills in what depends on the backbone, and checks that it is a network for images of that side.
    pub(super) fn complete(&mut self, side: usize) -> Result<(), Conflict> {
        let Some(spec) = &mut self.backbone else {
            self.channels.get_or_insert(Widths::default().channels.map(Channels));
            return Ok(());
        };
        if self.channels.is_some() {
            let message = "network.channels: only the study's backbone has them, and `backbone` names another";
            return Err(Conflict::new(&["network", "channels"], message));
        }
        let given = spec.settings.clone();
        let backbone = spec.complete()?;
        let layers = backbone.layers(side).map_err(|fault| {
            let key = if given.contains_key(fault.key) { fault.key } else { "backbone" };
            Conflict::new(&["network", key], format!("network.backbone.{}", fault.message))
        })?;
        let widths = Widths { side, backbone: Some(layers), ..Widths::default() };
        let message = |why: crate::Error| Conflict::new(&["network", "backbone"], format!("network.backbone: {why}"));
        cpu::check(&Network::backbone(&widths)).map_err(message)
    }
}

#[cfg(test)]
mod tests {
    use crate::experiment::Experiment;
    use crate::network::Network;

    fn parse(dataset: &str, network: &str) -> Result<Experiment, String> {
        let yaml = format!("name: t\ndataset: {dataset}\nnetwork: {network}\nstages: [{{name: a, method: pretext}}]");
        Experiment::parse("t.yaml".as_ref(), &yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_completed_and_written() {
        let resnet = parse("{name: synthetic}", "{backbone: {name: resnet, depth: 8}, hidden: 64}").unwrap();
        let json = serde_json::to_value(&resnet.network).unwrap();
        let expected = r#"{"name":"resnet","depth":8,"width":16}"#;
        assert_eq!(json["backbone"].to_string(), expected);
        assert!(json.get("channels").is_none());
        let again: Experiment = serde_json::from_value(serde_json::to_value(&resnet).unwrap()).unwrap();
        assert_eq!(again, resnet);
        assert_eq!(resnet.widths().features(), 64);
        let plain = parse("{name: synthetic}", "{backbone: {name: plain, layers: [8, pool, 12]}}").unwrap();
        assert_eq!(plain.widths().features(), 12);
        let names: Vec<String> = Network::backbone(&plain.widths()).tensors().map(|spec| spec.name).collect();
        assert_eq!(names[..2], ["backbone.0.weight", "backbone.1.weight"]);
        assert_eq!(names[5], "backbone.4.weight");
        let study = serde_json::to_value(parse("{name: synthetic}", "{}").unwrap().network).unwrap();
        assert_eq!(study["channels"], serde_json::json!([32, 64, 128]));
        assert!(study.get("backbone").is_none());
    }

    #[test]
    fn mistakes_are_placed() {
        let refused = |network: &str, expected: &str| {
            let error = parse("{name: synthetic}", network).unwrap_err();
            assert!(error.starts_with(&format!("t.yaml:3:{expected}")), "{error}");
        };
        refused(
            "{backbone: {name: resnett}}",
            "28: network.backbone.name: unknown backbone `resnett`: this program has `plain`, `resnet`; the study's is there without one",
        );
        refused(
            "{backbone: {name: resnet, deph: 8}}",
            "36: network.backbone: resnet has no key `deph`, but `depth`, `width`; did you mean `depth`?",
        );
        refused(
            "{backbone: {name: resnet, depth: 9}}",
            "36: network.backbone.depth: 9 is not 8, 14, 20 or another 6n + 2 up to 1202",
        );
        refused(
            "{backbone: {name: resnet, width: 300}}",
            "36: network.backbone.width: 300 is no number of channels from 1 to 256",
        );
        refused(
            "{backbone: {name: resnet, width: wide}}",
            "43: network.backbone: width: invalid type: string \"wide\"",
        );
        refused("{backbone: {name: resnet, depth: 8, depth: 20}}", "46: network.backbone: duplicate key `depth`");
        refused("{backbone: {name: plain}}", "11: network.backbone: missing field `layers`");
        refused(
            "{backbone: {name: plain, layers: [8, pol]}}",
            "35: network.backbone: layers: invalid value: string \"pol\", expected a number of channels from 1 to 1024, or `pool`",
        );
        refused(
            "{backbone: {name: plain, layers: [pool, 8]}}",
            "35: network.backbone.layers: the first is a convolution: a number",
        );
        refused(
            "{backbone: {name: plain, layers: [8, pool, pool]}}",
            "35: network.backbone.layers: 2 and 3 are both `pool`: a convolution stands between two",
        );
        let often = "[1, pool, 1, pool, 1, pool, 1, pool, 1, pool, 1, pool]";
        refused(
            &format!("{{backbone: {{name: plain, layers: {often}}}}}"),
            "35: network.backbone.layers: 6 times `pool` leave nothing of images of 32 × 32 pixels",
        );
        refused(
            "{backbone: {name: resnet}, channels: [1, 2, 3]}",
            "37: network.channels: only the study's backbone has them, and `backbone` names another",
        );
        refused(
            "{backbone: resnet}",
            "21: network.backbone: invalid type: string \"resnet\", expected a backbone: {name: …}",
        );
    }
}
