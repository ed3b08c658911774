//! What both derives read from a struct: its named fields, its doc comments, and the forms of names.

use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Expr, Field, Fields, Lit, LitStr, Meta, Type};

/// The named fields of a struct without generics.
pub fn named_fields<'a>(input: &'a DeriveInput, derive: &str) -> Result<Vec<&'a Field>, Error> {
    if !input.generics.params.is_empty() {
        return Err(Error::new(
            input.generics.span(),
            format!("#[derive({derive})] takes a struct without generic parameters"),
        ));
    }
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => Ok(fields.named.iter().collect()),
            Fields::Unit => Ok(Vec::new()),
            Fields::Unnamed(fields) => Err(Error::new(
                fields.span(),
                format!("#[derive({derive})] takes a struct with named fields"),
            )),
        },
        _ => Err(Error::new(
            input.ident.span(),
            format!("#[derive({derive})] takes a struct with named fields"),
        )),
    }
}

/// The doc comment: lines joined by spaces, paragraphs kept apart by a newline.
pub fn doc(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes {
        let Meta::NameValue(meta) = &attribute.meta else {
            continue;
        };
        let (true, Expr::Lit(value)) = (meta.path.is_ident("doc"), &meta.value) else {
            continue;
        };
        let Lit::Str(line) = &value.lit else { continue };
        let line = line.value();
        let line = line.trim();
        if line.is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
        } else {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push(' ');
            }
            text.push_str(line);
        }
    }
    text.trim_end().to_owned()
}

/// The name of a field without `r#`.
pub fn field_name(field: &Field) -> String {
    let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
    name.strip_prefix("r#").unwrap_or(&name).to_owned()
}

/// A string literal of the form `[a-z][a-z0-9_]*`, at most 64 characters.
pub fn identifier(name: &LitStr, what: &str) -> Result<String, Error> {
    check_identifier(&name.value(), what).map_err(|message| Error::new(name.span(), message))
}

/// The same for a name that is no literal.
pub fn check_identifier(name: &str, what: &str) -> Result<String, String> {
    let mut chars = name.bytes();
    let good = name.len() <= 64
        && chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    if good {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "{what} {name:?} is not of the form [a-z][a-z0-9_]* (at most 64 characters)"
        ))
    }
}

/// Whether the last word of a type's path is `name`: `String` for `std::string::String`.
pub fn type_is(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|s| s.ident == name))
}

/// Joins errors, so that an author sees all of them at once.
pub fn collect(errors: Vec<Error>) -> Result<(), Error> {
    match errors.into_iter().reduce(|mut all, next| {
        all.combine(next);
        all
    }) {
        Some(all) => Err(all),
        None => Ok(()),
    }
}
