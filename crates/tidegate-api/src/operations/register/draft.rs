//! What a registration says, checked as far as it can be before any file has come.

use serde_json::Value;
use tidegate_core::{
    ArtifactFormat, Baseline, Framework, ModelName, ModelType, Precision, SemVer, Sha256Digest,
};

use super::schema;
use super::stac::StacItem;
use crate::operations::fault::Fault;

/// The metadata as the caller wrote it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declaration {
    pub name: Option<String>,
    pub description: Option<String>,
    pub framework: Option<Framework>,
    pub model_type: Option<ModelType>,
    pub version: Option<String>,
    pub checksum: Option<String>,
    pub input_schema: Option<Value>,
    pub output_schema: Option<Value>,
    pub training_metadata: Option<Value>,
    pub baseline: Option<Baseline>,
    pub precision: Option<Precision>,
    pub reference: Option<String>,
    pub owner: Option<String>,
    pub tags: Vec<String>,
}

/// Metadata that can be registered once its artifacts are there.
pub(crate) struct Draft {
    pub name: ModelName,
    pub description: Option<String>,
    /// `None`: as the primary artifact's format says.
    pub framework: Option<Framework>,
    pub model_type: ModelType,
    pub number: SemVer,
    pub owner: String,
    pub tags: Vec<String>,
    pub checksum: Option<Sha256Digest>,
    pub input_schema: Option<Value>,
    pub output_schema: Option<Value>,
    pub training_metadata: Option<Value>,
    pub baseline: Option<Baseline>,
    /// `None`: as the file says.
    pub precision: Option<Precision>,
    /// The version that a quantised one is held against.
    pub reference: Option<SemVer>,
    pub stac: Option<StacItem>,
}

const MAX_DESCRIPTION: usize = 10_000;
const MAX_TAGS: usize = 50;
const MAX_TAG: usize = 128;
const MAX_OWNER: usize = 255;
/// Pre-release and build included; longer ones fit no index of PostgreSQL (2.7 kB), and nobody could read them.
const MAX_NUMBER: usize = 128;

impl Draft {
    /// All faults at once. What the declaration lacks comes from the item.
    pub(crate) fn new(
        declaration: Declaration,
        stac: Option<StacItem>,
        principal: &str,
    ) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let item = stac.as_ref().map(|stac| &stac.item);
        let name = keep(name_of(declaration.name, stac.as_ref()), &mut faults);
        let number = keep(number_of(declaration.version, stac.as_ref()), &mut faults);
        let checksum = declaration.checksum.map(|text| {
            Sha256Digest::parse(&text).map_err(|error| Fault::new("checksum", error.to_string()))
        });
        let reference = declaration.reference.map(|text| parse_number("reference", &text));
        let input_schema = declaration.input_schema.map(|schema| schema::given("inputSchema", schema));
        let output_schema = declaration.output_schema.map(|schema| schema::given("outputSchema", schema));
        let checksum = checksum.and_then(|result| keep(result, &mut faults));
        let reference = reference.and_then(|result| keep(result, &mut faults));
        let input_schema = input_schema.and_then(|result| keep(result, &mut faults));
        let output_schema = output_schema.and_then(|result| keep(result, &mut faults));
        let framework = declaration.framework.or_else(|| item.and_then(framework_of_item));
        if framework.is_none() && stac.is_none() {
            let words: Vec<_> = Framework::ALL.iter().map(|framework| framework.as_str()).collect();
            faults.push(Fault::new("framework", format!("missing; give one of {}", words.join(", "))));
        }
        let description = declaration.description.or_else(|| item.and_then(|item| item.description.clone()));
        check_texts(description.as_deref(), declaration.owner.as_deref(), &declaration.tags, &mut faults);
        check_baseline(declaration.baseline, &mut faults);
        let training_metadata =
            declaration.training_metadata.or_else(|| item.and_then(|item| item.hyperparameters.clone()));
        let model_type = declaration.model_type.unwrap_or(if stac.is_some() {
            ModelType::ComputerVision
        } else {
            ModelType::Other
        });
        let owner = declaration.owner.unwrap_or_else(|| principal.to_owned());
        let tags = declaration.tags;
        match (name, number) {
            (Some(name), Some(number)) if faults.is_empty() => Ok(Self {
                name,
                description,
                framework,
                model_type,
                number,
                owner,
                tags,
                checksum,
                input_schema,
                output_schema,
                training_metadata,
                baseline: declaration.baseline,
                precision: declaration.precision,
                reference,
                stac,
            }),
            _ => Err(faults),
        }
    }
}

/// What made an artifact, as far as its format tells.
pub(super) fn framework_of(format: ArtifactFormat) -> Framework {
    match format {
        ArtifactFormat::Onnx => Framework::ONNX,
        ArtifactFormat::TorchScript | ArtifactFormat::StateDict => Framework::PyTorch,
        _ => Framework::Custom,
    }
}

fn keep<T>(result: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

fn name_of(given: Option<String>, stac: Option<&StacItem>) -> Result<ModelName, Fault> {
    if let Some(name) = given {
        return ModelName::parse(&name).map_err(|error| Fault::new("name", error.to_string()));
    }
    let Some(stac) = stac else {
        return Err(Fault::new("name", "missing; give the model's name, such as `fraud-detection`"));
    };
    ModelName::parse(&stac.item.name).map_err(|error| {
        Fault::new("/properties/mlm:name", format!("{error}; or give another `name` in the metadata"))
    })
}

fn number_of(given: Option<String>, stac: Option<&StacItem>) -> Result<SemVer, Fault> {
    match (given, stac) {
        (Some(text), _) => parse_number("version", &text),
        (None, Some(stac)) => match &stac.item.version {
            Some(number) => parse_number("/properties/version", &number.to_string()),
            None => Err(Fault::new(
                "version",
                "missing; give it in the metadata or as `/properties/version` of the item",
            )),
        },
        (None, None) => Err(Fault::new("version", "missing; give a number such as `1.0.0`")),
    }
}

/// Semantic Versioning 2.0.0, up to [`MAX_NUMBER`] characters; the error shows how to write what was probably meant.
pub(crate) fn parse_number(field: &str, text: &str) -> Result<SemVer, Fault> {
    if text.chars().count() > MAX_NUMBER {
        return Err(Fault::new(field, format!("longer than {MAX_NUMBER} characters; write such as `1.0.0`")));
    }
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        let meant =
            nearest_number(text).map_or_else(|| "such as `1.0.0`".to_owned(), |number| format!("`{number}`"));
        Fault::new(field, format!("`{shown}` is not a semantic version; write {meant}"))
    })
}

/// `v2.0` and `2.0` mean `2.0.0`.
fn nearest_number(text: &str) -> Option<SemVer> {
    let text = text.trim().trim_start_matches(['v', 'V']);
    let mut parts: Vec<u64> = text.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    if parts.len() > 3 {
        return None;
    }
    parts.resize(3, 0);
    Some(SemVer::new(parts[0], parts[1], parts[2]))
}

fn framework_of_item(item: &tidegate_geo::ModelItem) -> Option<Framework> {
    let name = item.framework.as_deref()?;
    // The MLM vocabulary writes `scikit-learn`; ours has no dash.
    Some(name.replace(['-', ' '], "").parse().unwrap_or(Framework::Custom))
}

fn check_baseline(baseline: Option<Baseline>, faults: &mut Vec<Fault>) {
    let Some(Baseline { accuracy, latency_ms }) = baseline else { return };
    if accuracy.is_some_and(|accuracy| accuracy > 1.0) {
        let message = "must be at most 1: a share of right answers, an R² or an IoU, not a percentage";
        faults.push(Fault::new("baseline.accuracy", message));
    }
    if latency_ms.is_some_and(|latency_ms| latency_ms <= 0.0) {
        faults.push(Fault::new("baseline.latencyMs", "must be above 0: milliseconds of one prediction"));
    }
}

fn check_texts(description: Option<&str>, owner: Option<&str>, tags: &[String], faults: &mut Vec<Fault>) {
    if description.is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) {
        faults.push(Fault::new("description", format!("must be at most {MAX_DESCRIPTION} characters")));
    }
    if owner.is_some_and(|owner| !is_label(owner, MAX_OWNER)) {
        faults.push(Fault::new(
            "owner",
            format!("must be 1 to {MAX_OWNER} characters, none of them control characters"),
        ));
    }
    if tags.len() > MAX_TAGS {
        faults.push(Fault::new("tags", format!("must be at most {MAX_TAGS}")));
    }
    for (index, tag) in tags.iter().enumerate() {
        if !is_label(tag, MAX_TAG) {
            let message = format!("must be 1 to {MAX_TAG} characters, none of them control characters");
            faults.push(Fault::new(format!("tags[{index}]"), message));
        } else if tags[..index].contains(tag) {
            faults.push(Fault::new(format!("tags[{index}]"), format!("`{tag}` is given twice")));
        }
    }
}

fn is_label(text: &str, max: usize) -> bool {
    let n_characters = text.chars().count();
    (1..=max).contains(&n_characters) && !text.chars().any(char::is_control) && !text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_of_a_version_shows_how_to_write_it() {
        for (text, meant) in
            [("v2.0", "`2.0.0`"), ("2.0", "`2.0.0`"), ("2", "`2.0.0`"), ("latest", "`1.0.0`")]
        {
            let fault = parse_number("version", text).unwrap_err();
            assert!(fault.message.contains(meant), "{text}: {}", fault.message);
        }
        let long = |n_letters| format!("1.0.0-{}", "a".repeat(n_letters));
        assert!(parse_number("version", &long(MAX_NUMBER - 6)).is_ok());
        let fault = parse_number("version", &long(MAX_NUMBER - 5)).unwrap_err();
        assert!(fault.message.contains("128 characters"), "{}", fault.message);
        assert_eq!(parse_number("version", "2.0.0-rc.1").unwrap().to_string(), "2.0.0-rc.1");
    }

    #[test]
    fn all_faults_come_at_once() {
        let declaration = Declaration {
            name: Some("Not A Name".to_owned()),
            version: Some("v1".to_owned()),
            checksum: Some("abc".to_owned()),
            input_schema: Some(serde_json::json!(3)),
            baseline: Some(Baseline { accuracy: Some(92.0), latency_ms: Some(0.0) }),
            tags: vec!["a".to_owned(), "a".to_owned(), String::new()],
            ..Declaration::default()
        };
        let Err(faults) = Draft::new(declaration, None, "anna") else { panic!("it has faults") };
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "name",
                "version",
                "checksum",
                "inputSchema",
                "framework",
                "tags[1]",
                "tags[2]",
                "baseline.accuracy",
                "baseline.latencyMs"
            ]
        );
    }
}
