//! JSON Schemas (draft 2020-12) of the `features` object and the `prediction`: derived from a signature, or given.

use serde_json::{Map, Value, json};
use tidegate_core::{DType, Dim, Signature, TensorSpec};

use crate::operations::fault::Fault;

/// The schemas of a signature's inputs and outputs. Each tensor is an array nested by its axes; its datatype and shape
/// stand beside it as `x-datatype` and `x-shape`.
pub(super) fn of_signature(signature: &Signature) -> (Value, Value) {
    (object(&signature.inputs), object(&signature.outputs))
}

/// The schema of what nothing is known about.
pub(super) fn any() -> Value {
    json!({"type": "object"})
}

fn object(tensors: &[TensorSpec]) -> Value {
    let properties: Map<String, Value> =
        tensors.iter().map(|spec| (spec.name.clone(), tensor(spec))).collect();
    let required: Vec<_> = tensors.iter().map(|spec| spec.name.as_str()).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn tensor(spec: &TensorSpec) -> Value {
    let element = match spec.datatype {
        DType::Bool => "boolean",
        DType::Bytes => "string",
        DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64 => "number",
        _ => "integer",
    };
    let mut schema = json!({"type": element});
    for dim in spec.shape.iter().rev() {
        schema = match dim {
            Dim::Fixed(size) => json!({"type": "array", "items": schema, "minItems": size, "maxItems": size}),
            Dim::Dynamic => json!({"type": "array", "items": schema}),
        };
    }
    schema["x-datatype"] = json!(spec.datatype);
    schema["x-shape"] = json!(spec.shape);
    // This axis may be left out of a request.
    if spec.shape.first().is_some_and(|dim| matches!(dim, Dim::Dynamic | Dim::Fixed(1))) {
        schema["x-batch-axis"] = json!(0);
    }
    schema
}

/// Takes a schema as an object or as a string that holds one, and checks the keywords that Tidegate reads.
pub(super) fn given(field: &str, schema: Value) -> Result<Value, Fault> {
    let schema = match schema {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|error| Fault::new(field, format!("the string does not hold a JSON Schema: {error}")))?,
        other => other,
    };
    check(field, &schema, 0)?;
    Ok(schema)
}

/// What serde_json reads at most.
const MAX_DEPTH: usize = 128;

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

fn check(field: &str, schema: &Value, depth: usize) -> Result<(), Fault> {
    let fault = |key: &str, message: String| {
        Err(Fault::new(if key.is_empty() { field.to_owned() } else { format!("{field}.{key}") }, message))
    };
    let Value::Object(keywords) = schema else {
        return match (depth, schema) {
            (1.., Value::Bool(_)) => Ok(()),
            _ => fault("", format!("a JSON Schema is an object, got {}", kind(schema))),
        };
    };
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match keywords.get("type") {
        None => {}
        Some(Value::Array(names)) if names.iter().all(is_type) => {}
        Some(name) if is_type(name) => {}
        Some(other) => return fault("type", format!("{other} is not one of {}", TYPES.join(", "))),
    }
    match keywords.get("properties") {
        None => {}
        Some(Value::Object(properties)) if depth < MAX_DEPTH => {
            for (name, property) in properties {
                check(&format!("{field}.properties.{name}"), property, depth + 1)?;
            }
        }
        Some(other) => {
            return fault("properties", format!("must be an object of schemas, got {}", kind(other)));
        }
    }
    match keywords.get("required") {
        None => Ok(()),
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => Ok(()),
        Some(_) => fault("required", "must be an array of property names".to_owned()),
    }
}

/// What a JSON value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_becomes_nested_arrays_with_the_tensor_beside_them() {
        let spec = TensorSpec {
            name: "X".to_owned(),
            datatype: DType::Fp32,
            shape: vec![Dim::Dynamic, Dim::Fixed(2)],
        };
        let (input, output) = of_signature(&Signature { inputs: vec![spec], outputs: vec![] });
        assert_eq!(input["properties"]["X"]["items"]["items"]["type"], "number");
        assert_eq!(input["properties"]["X"]["x-shape"], json!([-1, 2]));
        assert_eq!(input["required"], json!(["X"]));
        assert!(given("inputSchema", input).is_ok() && given("outputSchema", output).is_ok());
    }

    #[test]
    fn given_schemas_are_read_in_both_spellings_and_faults_name_the_keyword() {
        assert_eq!(given("inputSchema", json!("{\"type\": \"object\"}")).unwrap(), json!({"type": "object"}));
        let cases = [
            (json!([]), "inputSchema"),
            (json!(true), "inputSchema"),
            (json!("{"), "inputSchema"),
            (json!({"type": "int"}), "inputSchema.type"),
            (json!({"properties": []}), "inputSchema.properties"),
            (json!({"properties": {"a": {"type": 5}}}), "inputSchema.properties.a.type"),
            (json!({"required": "a"}), "inputSchema.required"),
        ];
        for (schema, field) in cases {
            assert_eq!(given("inputSchema", schema.clone()).unwrap_err().field, field, "{schema}");
        }
    }
}
