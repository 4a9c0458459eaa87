//! A room of the crate uses the rooms below it and no other. This test reads the source and fails on
//! each line that points upward.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use proc_macro2::{TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};
use syn::{
    Attribute, Expr, ExprLit, ItemMod, ItemUse, Lit, Macro, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

/// The rooms, lowest first. A room uses itself, the rooms that share its line, and the lines above
/// its own in this list. A module belongs to the room that names the longest part of its path.
const ROOMS: &[&[&str]] = &[
    &["error", "signal", "time", "platform", "share", "home"],
    &["record"],
    &["loss"],
    &["config"],
    &["redact"],
    &["otlp"],
    &["filter"],
    &["store::engine"],
    &["store::layout"],
    &["store::policy"],
    &["store::ledger"],
    &["store::tiers"],
    &["store::scan"],
    &["store::migrations"],
    &["store::maintain"],
    &["store::write"],
    &[
        "store::admission",
        "store::snapshot",
        "store::handle",
        "store::importer",
        "store::options",
        "store::writer",
    ],
    &["store"],
    &["read"],
    &["lines"],
    &["ingest"],
    &["produce"],
    &["telemetry"],
    &[""],
];

/// Files that still use a room above their own, and that room. An entry whose file no longer does
/// fails the test, so that the list can only get shorter.
const KNOWN: &[(&str, &str)] = &[];

#[test]
fn rooms_depend_downward() {
    let uses = Crate::read(Path::new(env!("CARGO_MANIFEST_DIR"))).uses();
    assert!(uses.len() > 100, "only {} uses were found", uses.len());

    let mut known: BTreeSet<_> = KNOWN.iter().copied().collect();
    let mut failures = String::new();
    for used in uses.iter().filter(|used| used.points_upward()) {
        let file = used.file.as_str();
        let is_known = KNOWN.contains(&(file, used.used));
        known.remove(&(file, used.used));
        if !is_known {
            writeln!(
                failures,
                "{file}:{}: room `{}` uses `{}` of the higher room `{}`",
                used.line, used.room, used.path, used.used
            )
            .unwrap_or_default();
        }
    }
    for (file, room) in known {
        writeln!(
            failures,
            "{file} no longer uses `{room}`: remove it from KNOWN"
        )
        .unwrap_or_default();
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// One place where a file names an item of the crate.
struct Use {
    file: String,
    line: usize,
    room: &'static str,
    /// The path of the item, where it is defined.
    path: String,
    /// The room that defines the item.
    used: &'static str,
}

impl Use {
    fn points_upward(&self) -> bool {
        height(self.used) > height(self.room)
    }
}

/// The room of the module or item with this path.
fn room_of(path: &[String]) -> &'static str {
    let path = path.join("::");
    let holds = |room: &&str| {
        let rest = path.strip_prefix(*room);
        room.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let rooms = ROOMS.iter().copied().flatten().copied();
    rooms
        .filter(holds)
        .max_by_key(|room| room.len())
        .unwrap_or_default()
}

fn height(room: &str) -> usize {
    let height = ROOMS.iter().position(|line| line.contains(&room));
    height.unwrap_or_else(|| panic!("no room `{room}`"))
}

/// The modules of the crate that are built without `cfg(test)`, by path.
#[derive(Default)]
struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

#[derive(Default)]
struct Module {
    file: String,
    /// What `use` brings into the module: the name there, and the path it stands for.
    names: BTreeMap<String, Vec<String>>,
    /// Paths in the module that begin in this crate, with their lines.
    paths: Vec<(usize, Vec<String>)>,
}

impl Crate {
    fn read(root: &Path) -> Crate {
        let mut found = Crate::default();
        found.read_file(root, &root.join("src/lib.rs"), Vec::new());
        found
    }

    fn read_file(&mut self, root: &Path, file: &Path, module: Vec<String>) {
        let text = fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        let parsed = syn::parse_file(&text)
            .unwrap_or_else(|error| panic!("cannot parse {}: {error}", file.display()));
        let relative = file.strip_prefix(root).unwrap_or(file);
        let is_folder = file.ends_with("lib.rs") || file.ends_with("mod.rs");
        let mut reader = FileReader {
            file: relative.display().to_string(),
            module,
            modules: BTreeMap::new(),
            folder: if is_folder {
                file.with_file_name("")
            } else {
                file.with_extension("")
            },
            elsewhere: Vec::new(),
        };
        reader.enter();
        reader.visit_file(&parsed);
        self.modules.append(&mut reader.modules);
        for (module, file) in reader.elsewhere {
            self.read_file(root, &file, module);
        }
    }

    fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (path, module) in &self.modules {
            // The root only hands out what the rooms define.
            for (line, named) in module.paths.iter().filter(|_| !path.is_empty()) {
                let defined = self.resolve(named.clone());
                uses.push(Use {
                    file: module.file.clone(),
                    line: *line,
                    room: room_of(path),
                    used: room_of(&defined),
                    path: defined.join("::"),
                });
            }
        }
        uses
    }

    /// Follows re-exports, to the path under which an item is defined.
    fn resolve(&self, mut path: Vec<String>) -> Vec<String> {
        let mut index = 0;
        let mut followed = 0;
        while let (Some(parent), Some(name)) = (path.get(..index), path.get(index)) {
            let module = self.modules.get(parent);
            let is_module = self
                .modules
                .contains_key(path.get(..=index).unwrap_or_default());
            match module.and_then(|module| module.names.get(name)) {
                Some(target) if !is_module => {
                    let rest = path.split_off(index + 1);
                    path = target.iter().cloned().chain(rest).collect();
                    index = 0;
                    followed += 1;
                    assert!(followed < 100, "`{}` stands for itself", path.join("::"));
                }
                _ if is_module => index += 1,
                _ => break,
            }
        }
        path
    }
}

/// Collects the modules of one file.
struct FileReader {
    file: String,
    /// The module that is being read.
    module: Vec<String>,
    modules: BTreeMap<Vec<String>, Module>,
    /// Where the modules are that the file declares.
    folder: PathBuf,
    /// Modules in files of their own, and the files.
    elsewhere: Vec<(Vec<String>, PathBuf)>,
}

impl FileReader {
    fn enter(&mut self) {
        let module = self.modules.entry(self.module.clone()).or_default();
        module.file.clone_from(&self.file);
    }

    fn current(&mut self) -> &mut Module {
        self.modules.entry(self.module.clone()).or_default()
    }

    /// The path from the root of the crate; `None` when it begins in another crate or is an item of
    /// the module itself.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut module = self.module.clone();
        let mut rest = path.iter().peekable();
        match rest.peek()?.as_str() {
            "crate" => {
                module.clear();
                rest.next();
            }
            "self" => {
                rest.next();
            }
            "super" => {}
            _ => return None,
        }
        while rest.next_if(|name| *name == "super").is_some() {
            module.pop();
        }
        module.extend(rest.cloned());
        Some(module)
    }

    fn add(&mut self, line: usize, path: &[String]) {
        if let Some(path) = self.absolute(path) {
            self.current().paths.push((line, path));
        }
    }

    fn add_tree(&mut self, mut path: Vec<String>, tree: &UseTree) {
        let (name, renamed) = match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                return self.add_tree(path, &tree.tree);
            }
            UseTree::Group(tree) => {
                for tree in &tree.items {
                    self.add_tree(path.clone(), tree);
                }
                return;
            }
            UseTree::Glob(tree) => {
                let line = tree.star_token.spans[0].start().line;
                return self.add(line, &path);
            }
            UseTree::Name(tree) => (&tree.ident, &tree.ident),
            UseTree::Rename(tree) => (&tree.ident, &tree.rename),
        };
        if name == "self" && !path.is_empty() {
            // `use a::{self}` brings in `a`.
        } else {
            path.push(name.to_string());
        }
        self.add(name.span().start().line, &path);
        if let Some(target) = self.absolute(&path) {
            let name = if renamed == "self" {
                target.last().cloned()
            } else {
                Some(renamed.to_string())
            };
            self.current().names.extend(name.map(|name| (name, target)));
        }
    }

    /// Paths in the arguments of a macro, which are not parsed.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let line = first.span().start().line;
                    let mut path = vec![first.to_string()];
                    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
                    while tokens.next_if(is_colon).is_some() && tokens.next_if(is_colon).is_some() {
                        if let Some(TokenTree::Ident(name)) =
                            tokens.next_if(|token| matches!(token, TokenTree::Ident(_)))
                        {
                            path.push(name.to_string());
                        }
                    }
                    if path.len() > 1 {
                        self.add(line, &path);
                    }
                }
                _ => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for FileReader {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.attrs.iter().any(is_cfg_test) {
            return;
        }
        self.module.push(item.ident.to_string());
        if item.content.is_some() {
            self.enter();
            visit::visit_item_mod(self, item);
        } else {
            let name = item.ident.to_string();
            let beside = self.folder.join(&name).with_extension("rs");
            let file = match item.attrs.iter().find_map(named_file) {
                Some(named) => self.folder.join(named),
                None if beside.exists() => beside,
                None => self.folder.join(name).join("mod.rs"),
            };
            self.elsewhere.push((self.module.clone(), file));
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_tree(Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path
            .segments
            .iter()
            .map(|part| part.ident.to_string())
            .collect();
        if let (Some(first), true) = (path.segments.first(), names.len() > 1) {
            self.add(first.ident.span().start().line, &names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.visit_path(&called.path);
        self.add_tokens(called.tokens.clone());
    }

    /// `pub(in …)` names a module without using it.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

/// The file in `#[path = "…"]`.
fn named_file(attribute: &Attribute) -> Option<String> {
    let Meta::NameValue(meta) = &attribute.meta else {
        return None;
    };
    let Expr::Lit(ExprLit {
        lit: Lit::Str(file),
        ..
    }) = &meta.value
    else {
        return None;
    };
    meta.path.is_ident("path").then(|| file.value())
}

fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .parse_args::<syn::Path>()
            .is_ok_and(|path| path.is_ident("test"))
}
