//! `docs/openapi.json` against the pages: every route, every parameter, every field of every
//! answer.

use farm::blocks::SubmitResult;

use super::super::api_routes;
use super::*;

fn document() -> Value {
    serde_json::from_str(include_str!("../../../../docs/openapi.json")).expect("JSON")
}

/// The names of an object's members.
fn keys(object: &Value) -> Vec<&str> {
    object.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// A farm of which every page shows at least one of everything.
fn full_farm() -> Farm {
    let farm = Farm::new();
    farm.change(|status| {
        status.job = Some(samples::job(NOW));
        status.jobs.push(samples::job(NOW));
        status.template_age_micros = Some(1);
    });
    *farm.nodes.lock().expect("no test panics with it") = vec![bitcoind(NodeHealth::Ready)];
    farm
}

/// What a value has that its schema does not allow, or lacks that it demands.
fn faults(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).expect("it is there");
        return faults(document, schema, value, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let of = |choice| faults(document, choice, value, place);
        let all: Vec<Vec<String>> = choices.iter().map(of).collect();
        let fits = all.iter().any(Vec::is_empty);
        return if fits { Vec::new() } else { all.concat() };
    }
    let mut found = Vec::new();
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let is = |kind: &Value| match kind.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    };
    if !kinds.iter().any(is) {
        found.push(format!("{place}: {value} is not {}", schema["type"]));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{place}: {value} is none of the words"));
    }
    for item in value.as_array().into_iter().flatten() {
        found.extend(faults(document, &schema["items"], item, &format!("{place}[]")));
    }
    for name in keys(value) {
        match schema["properties"].get(name) {
            None => found.push(format!("{place}.{name} is not in the document")),
            Some(schema) => {
                let place = format!("{place}.{name}");
                found.extend(faults(document, schema, &value[name], &place));
            }
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.is_object() && value.get(name.as_str().expect("a name")).is_none() {
            found.push(format!("{place} lacks {name}"));
        }
    }
    found
}

#[test]
fn every_route_is_documented_and_every_documented_one_answers_so() {
    let document = document();
    let mut routes: Vec<&str> = api_routes().into_iter().map(|(path, _)| path).collect();
    routes.sort_unstable();
    assert_eq!(keys(&document["paths"]), routes);
    let address = serving(Arc::new(full_farm()));
    for path in routes {
        let (code, body) = json(address, path);
        assert_eq!(code, 200, "{path}");
        let answer = &document["paths"][path]["get"]["responses"]["200"];
        let schema = &answer["content"]["application/json"]["schema"];
        assert_eq!(faults(&document, schema, &body, path), [""; 0]);
        let lists = body.as_object().expect("an object").values().filter(|value| value.is_array());
        assert!(lists.into_iter().all(|list| list != &Value::Array(Vec::new())), "{path}: {body}");
    }
}

#[test]
fn the_words_of_a_node_are_those_of_the_farm() {
    let document = document();
    let words = &document["components"]["schemas"]["NodeAnswer"]["properties"]["answer"]["enum"];
    let known = SubmitResult::NAMES.into_iter().map(Value::from).chain([Value::Null]);
    assert_eq!(*words, known.collect::<Value>());
}

#[test]
fn every_schema_demands_all_that_it_names() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for (name, schema) in schemas {
        let mut required: Vec<&str> = schema["required"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|name| name.as_str().expect("a name"))
            .collect();
        required.sort_unstable();
        assert_eq!(required, keys(&schema["properties"]), "{name}");
        assert_eq!(schema["additionalProperties"], false, "{name}");
    }
    let schema = &document["components"]["schemas"]["Error"];
    let wrong = serde_json::json!({ "error": 7, "more": true });
    assert_eq!(faults(&document, schema, &wrong, "error").len(), 2, "the check sees faults");
    assert_eq!(faults(&document, schema, &serde_json::json!({}), "error").len(), 1);
}

#[test]
fn a_page_takes_the_documented_parameters_and_refuses_all_others() {
    let document = document();
    let address = serving(Arc::new(full_farm()));
    let paths = document["paths"].as_object().expect("paths");
    let parameters = |path: &Value| -> Vec<(String, Value)> {
        let list = path["get"]["parameters"].as_array().expect("a list").iter();
        let name = |of: &Value| of["name"].as_str().expect("a name").to_owned();
        list.map(|parameter| (name(parameter), parameter["schema"].clone())).collect()
    };
    let all: Vec<String> = paths.values().flat_map(&parameters).map(|(name, _)| name).collect();
    assert!(all.len() > 10, "{all:?}");
    for (path, described) in paths {
        let documented = parameters(described);
        for name in all.iter().map(String::as_str).chain(["colour", "limit%00"]) {
            let (code, body) = json(address, &format!("{path}?{name}=1"));
            let unknown = body["error"].as_str().unwrap_or_default().starts_with("there is no");
            let known = documented.iter().any(|(documented, _)| documented == name);
            assert_eq!(unknown, !known, "{path}?{name}: {body}");
            assert!(code == 200 || code == 400, "{path}?{name}");
        }
        for (name, schema) in &documented {
            for word in schema["enum"].as_array().into_iter().flatten() {
                let word = word.as_str().expect("a word");
                assert_eq!(json(address, &format!("{path}?{name}={word}")).0, 200, "{name}={word}");
            }
            if schema["type"] != "string" || !schema["enum"].is_null() || name == "address" {
                for nonsense in
                    ["", "-1", "1e300", "NaN", "%00", "%CF%80", "9999999999999999999999"]
                {
                    let (code, body) = json(address, &format!("{path}?{name}={nonsense}"));
                    assert_eq!(code, 400, "{path}?{name}={nonsense}");
                    assert!(
                        body["error"].as_str().is_some_and(|why| why.starts_with(name)),
                        "{body}"
                    );
                }
            }
            let (code, body) = json(address, &format!("{path}?{name}=1&{name}=1"));
            let wanted = format!("{name} is given twice");
            assert_eq!((code, &body["error"]), (400, &wanted.into()));
        }
    }
}
