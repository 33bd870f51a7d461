//! The page docs/api.md, out of the comments of `proto/`.

use std::{collections::HashMap, env, fmt::Write, fs, path::Path};

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

const PACKAGE: &str = "userpilot_gateway.v1";

const INTRODUCTION: &str = "\
<!-- Made of proto/. To renew: UPDATE_DOCS=1 cargo test --lib in_docs_is_current -->

# The gRPC API

The package is `userpilot_gateway.v1`; the files are in `proto/`. [clients.md](clients.md) shows how
to call it, [security.md](security.md) who may. IngestService is at `server.grpc_listen`, for the
services that send; AdminService is at `server.admin_listen`, for operators. A client's updates are
refused by these codes:

| code | when | and then |
|---|---|---|
| `INVALID_ARGUMENT` | a field is wrong: `google.rpc.BadRequest` names it, never its value | mend it; the same again is refused again |
| `UNAUTHENTICATED` | there is no valid credential | see to the credential |
| `PERMISSION_DENIED` | the client may not use the app, the lane or the property | ask the operator |
| `RESOURCE_EXHAUSTED` | no room, or beyond the client's rate: `google.rpc.RetryInfo` says when | send it again then |
| `FAILED_PRECONDITION` | what the store holds of the app is damaged | keep it until the operator has mended that |
| `UNAVAILABLE` | the gateway starts, stops or failed; the update may be stored all the same | send it again: that is safe |

Fields that a client does not know are to be passed over, and values of enums that it does not know
to be taken for the unspecified one: both come without another version of the package.
";

/// A place in a file: the numbers by which descriptors call what is in it.
type Place = Vec<i32>;

/// A file, and what stands above each thing in it.
struct Source<'a> {
    file: &'a FileDescriptorProto,
    comments: HashMap<Place, String>,
}

impl<'a> Source<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comment = |location: &prost_types::source_code_info::Location| {
            Some((location.path.clone(), location.leading_comments.clone()?))
        };
        Self { file, comments: locations.filter_map(comment).collect() }
    }

    fn comment(&self, place: &[i32]) -> &str {
        let comment = self.comments.get(place).map(|comment| comment.trim());
        comment.unwrap_or_else(|| panic!("{:?} has nothing above {place:?}", self.file.name()))
    }
}

fn api_markdown() -> String {
    let files = FileDescriptorSet::decode(super::DESCRIPTORS).unwrap();
    let ours = files.file.iter().filter(|file| file.package() == PACKAGE);
    let sources: Vec<Source<'_>> = ours.map(Source::of).collect();
    let mut page = String::from(INTRODUCTION);
    // What can be called comes first, senders' before operators'.
    let mut services: Vec<_> = sources
        .iter()
        .flat_map(|source| (0..).zip(&source.file.service).map(move |(nth, it)| (source, nth, it)))
        .collect();
    services.sort_by_key(|(_, _, service)| service.name() != "IngestService");
    for (source, nth, service) in services {
        describe_service(&mut page, source, nth, service);
    }
    page.push_str("\n## Messages\n");
    for source in &sources {
        for (nth, message) in (0..).zip(&source.file.message_type) {
            describe_message(&mut page, source, nth, message);
        }
    }
    page.push_str("\n## Enums\n");
    for source in &sources {
        for (nth, it) in (0..).zip(&source.file.enum_type) {
            describe_enum(&mut page, source, nth, it);
        }
    }
    page
}

fn describe_service(
    page: &mut String,
    source: &Source<'_>,
    nth: i32,
    service: &ServiceDescriptorProto,
) {
    let about = source.comment(&[6, nth]);
    // Writing to a String does not fail.
    let _ = write!(page, "\n## {}\n\n{}\n", service.name(), prose(about));
    for (at, method) in (0..).zip(&service.method) {
        let stream = |streams: bool| if streams { "stream of " } else { "" };
        let _ = write!(
            page,
            "\n### {}\n\n{}{} → {}{}\n\n{}\n",
            method.name(),
            stream(method.client_streaming()),
            link(method.input_type()),
            stream(method.server_streaming()),
            link(method.output_type()),
            prose(source.comment(&[6, nth, 2, at]))
        );
    }
}

fn describe_message(page: &mut String, source: &Source<'_>, nth: i32, message: &DescriptorProto) {
    assert!(message.nested_type.is_empty() && message.enum_type.is_empty(), "is not described");
    let about = source.comment(&[4, nth]);
    let _ = write!(page, "\n### {}\n\n{}\n", message.name(), prose(about));
    if message.field.is_empty() {
        return;
    }
    page.push_str("\n| field | type | meaning |\n|---|---|---|\n");
    for (at, field) in (0..).zip(&message.field) {
        let meaning = cell(source.comment(&[4, nth, 2, at]));
        let _ = writeln!(page, "| `{}` | {} | {meaning} |", field.name(), kind(field, message));
    }
}

fn describe_enum(page: &mut String, source: &Source<'_>, nth: i32, it: &EnumDescriptorProto) {
    let about = source.comment(&[5, nth]);
    let _ = write!(page, "\n### {}\n\n{}\n", it.name(), prose(about));
    page.push_str("\n| value | number | meaning |\n|---|---|---|\n");
    for (at, value) in (0..).zip(&it.value) {
        let meaning = cell(source.comment(&[5, nth, 2, at]));
        let _ = writeln!(page, "| `{}` | {} | {meaning} |", value.name(), value.number());
    }
}

/// A field's type, and how often it is there.
fn kind(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let kind = field.r#type();
    let one = if matches!(kind, Type::Message | Type::Enum) {
        link(field.type_name())
    } else {
        format!("`{}`", kind.as_str_name().trim_start_matches("TYPE_").to_lowercase())
    };
    if field.label() == Label::Repeated {
        return format!("list of {one}");
    }
    match field.oneof_index {
        None => one,
        Some(_) if field.proto3_optional() => format!("{one}, optional"),
        Some(index) => {
            let choice = message.oneof_decl[usize::try_from(index).unwrap()].name();
            format!("{one}, one of `{choice}`")
        }
    }
}

/// The name of a type, with a link where it is ours.
fn link(name: &str) -> String {
    let name = name.trim_start_matches('.');
    match name.strip_prefix(PACKAGE).and_then(|name| name.strip_prefix('.')) {
        Some(ours) => format!("[{ours}](#{})", ours.to_lowercase()),
        None => format!("`{name}`"),
    }
}

/// A comment as it stands, less what sets it off from its slashes.
fn prose(comment: &str) -> String {
    let lines = comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// A comment in one line of a table.
fn cell(comment: &str) -> String {
    assert!(!comment.contains('|'), "breaks the table: {comment}");
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_api_in_docs_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, api_markdown()).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == api_markdown(),
        "docs/api.md is not what proto/ says; \
         renew it: UPDATE_DOCS=1 cargo test --lib in_docs_is_current"
    );
}

#[test]
fn every_link_of_the_api_leads_somewhere_and_nowhere_twice() {
    let page = api_markdown();
    let headings: Vec<String> =
        page.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_lowercase).collect();
    for link in page.split("](#").skip(1) {
        let target = link.split(')').next().unwrap();
        let found = headings.iter().filter(|heading| *heading == target).count();
        assert_eq!(found, 1, "{target}");
    }
}
