//! One script of many modules.
//!
//! Each module becomes a function that is called once and returns what it exports; what it imports it takes from those before.
//! Of the language this needs an `import { … } from "./….js";` to stand on one line and an `export` to stand before a
//! declaration, and it is tested that they do.

use std::fmt::Write;

/// In an order in which each finds before it what it imports.
const MODULES: [(&str, &str); 30] = [
    ("dom", include_str!("js/dom.js")),
    ("format", include_str!("js/format.js")),
    ("clock", include_str!("js/clock.js")),
    ("place", include_str!("js/place.js")),
    ("token", include_str!("js/token.js")),
    ("api", include_str!("js/api.js")),
    ("issuer", include_str!("js/issuer.js")),
    ("section", include_str!("js/section.js")),
    ("parts", include_str!("js/parts.js")),
    ("table", include_str!("js/table.js")),
    ("chart", include_str!("js/chart.js")),
    ("verdict", include_str!("js/verdict.js")),
    ("next", include_str!("js/next.js")),
    ("findings", include_str!("js/findings.js")),
    ("changed", include_str!("js/changed.js")),
    ("slow", include_str!("js/slow.js")),
    ("locks", include_str!("js/locks.js")),
    ("statements", include_str!("js/statements.js")),
    ("connections", include_str!("js/connections.js")),
    ("tables", include_str!("js/tables.js")),
    ("rls", include_str!("js/rls.js")),
    ("events", include_str!("js/events.js")),
    ("pages", include_str!("js/pages.js")),
    ("resolve", include_str!("js/resolve.js")),
    ("refresh", include_str!("js/refresh.js")),
    ("notice", include_str!("js/notice.js")),
    ("controls", include_str!("js/controls.js")),
    ("watch", include_str!("js/watch.js")),
    ("gate", include_str!("js/gate.js")),
    ("main", include_str!("js/main.js")),
];

/// The modules as one.
pub(super) fn bundle() -> String {
    let mut bundle = String::new();
    for (name, source) in MODULES {
        // Names of modules begin with a sign that no other name on the page has.
        let _ = write!(
            bundle,
            "const ${name} = (() => {{\n{}}})();\n",
            as_function(source)
        );
    }
    bundle
}

fn as_function(source: &str) -> String {
    let mut body = String::with_capacity(source.len());
    let mut exported = Vec::new();
    for line in source.lines() {
        // Comments are for who reads the source.
        if line.trim_start().starts_with("//") {
            continue;
        }
        if let Some((names, module)) = import(line) {
            let names = names.replace(" as ", ": ");
            let _ = writeln!(body, "const {{ {names} }} = ${module};");
            continue;
        }
        let declaration = line.strip_prefix("export ").unwrap_or(line);
        if declaration.len() < line.len() {
            exported.extend(declared(declaration));
        }
        // Neither is how far it is indented.
        body.push_str(declaration.trim_start());
        body.push('\n');
    }
    let _ = writeln!(body, "return {{ {} }};", exported.join(", "));
    body
}

/// The names and the module of an `import { … } from "./module.js";`.
fn import(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("import { ")?;
    let (names, rest) = rest.split_once(" } from \"./")?;
    Some((names, rest.strip_suffix(".js\";")?))
}

/// The name that a declaration gives.
fn declared(declaration: &str) -> Option<&str> {
    let rest = declaration
        .trim_start_matches("async ")
        .split_once(' ')
        .map(|(_, rest)| rest)?;
    rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .next()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn exports(source: &str) -> BTreeSet<&str> {
        let exported = source
            .lines()
            .filter_map(|line| line.strip_prefix("export "));
        exported.filter_map(declared).collect()
    }

    #[test]
    fn a_module_is_a_function() {
        let source = "// why\nimport { h, forget as drop } from \"./dom.js\";\nexport const A = 1;\nexport async function b(c) {\n  // no\n  return c;\n}\n";
        let expected = "const { h, forget: drop } = $dom;\nconst A = 1;\nasync function b(c) {\nreturn c;\n}\nreturn { A, b };\n";
        assert_eq!(as_function(source), expected);
    }

    /// A name that is imported and not there would be undefined only where it is used.
    #[test]
    fn each_import_is_of_a_module_before_and_of_a_name_it_exports() {
        let mut known = BTreeMap::new();
        for (name, source) in MODULES {
            for line in source.lines().filter(|line| line.starts_with("import")) {
                let (names, module) = import(line).unwrap_or_else(|| panic!("{name}: {line}"));
                let exported: &BTreeSet<&str> = known
                    .get(module)
                    .unwrap_or_else(|| panic!("{name}: {module} does not stand before it"));
                for imported in names.split(", ") {
                    let imported = imported.split(" as ").next().unwrap_or_default();
                    assert!(
                        exported.contains(imported),
                        "{name}: {imported} of {module}"
                    );
                    let uses = source.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                    let local = line.split(&format!("{imported} as ")).nth(1);
                    let local = local.and_then(|rest| rest.split([',', ' ']).next());
                    let local = local.unwrap_or(imported);
                    assert!(
                        uses.filter(|word| *word == local).count() > 1,
                        "{name}: {local} is not used"
                    );
                }
            }
            assert!(
                !source.contains("export {") && !source.contains("export default"),
                "{name}"
            );
            assert!(!source.contains("import("), "{name}");
            // A line of a comment is left out, which inside a text it must not be.
            assert!(
                source
                    .lines()
                    .all(|line| line.matches('`').count() % 2 == 0),
                "{name}"
            );
            known.insert(name, exports(source));
        }
    }
}
