//! `#[derive(Options)]`: the typed options of a probe from a struct.

use crate::attribute::{check_identifier, collect, doc, field_name, identifier, named_fields, type_is};
use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Expr, Field, Ident, Lit, LitStr, Type};

/// Settings of `probe add` that belong to the host.
const RESERVED: [&str; 4] = ["every", "name", "for", "max_cpu"];

struct OptionField<'a> {
    ident: &'a Ident,
    ty: &'a Type,
    name: String,
    doc: String,
    default: Option<TokenStream>,
}

pub fn derive(input: &DeriveInput) -> Result<TokenStream, Error> {
    let mut errors = Vec::new();
    let mut options: Vec<OptionField<'_>> = Vec::new();
    for field in named_fields(input, "Options")? {
        match option(field) {
            Ok(option) if options.iter().any(|other| other.name == option.name) => {
                errors.push(Error::new(option.ident.span(), "this option is declared twice"));
            }
            Ok(option) => options.push(option),
            Err(error) => errors.push(error),
        }
    }
    collect(errors)?;
    let struct_name = &input.ident;
    let idents = options.iter().map(|o| o.ident);
    let types: Vec<_> = options.iter().map(|o| o.ty).collect();
    let names: Vec<_> = options.iter().map(|o| &o.name).collect();
    let docs = options.iter().map(|o| &o.doc);
    let defaults: Vec<_> = options
        .iter()
        .map(|o| match &o.default {
            Some(value) => quote!(::core::option::Option::Some(#value)),
            None => quote!(::core::option::Option::None),
        })
        .collect();
    Ok(quote! {
        #[automatically_derived]
        impl ::vwatch_sdk::Options for #struct_name {
            fn describe() -> ::std::vec::Vec<::vwatch_sdk::describe::ProbeOption> {
                ::std::vec![#(::vwatch_sdk::__private::describe_option::<#types>(#names, #docs, #defaults)),*]
            }
            fn decode(given: &::vwatch_sdk::JsonObject) -> ::vwatch_sdk::Result<Self> {
                ::vwatch_sdk::__private::check_names(given, &[#(#names),*])?;
                ::core::result::Result::Ok(Self {
                    #(#idents: ::vwatch_sdk::__private::decode_option::<#types>(given, #names, #defaults)?),*
                })
            }
        }
    })
}

fn option(field: &Field) -> Result<OptionField<'_>, Error> {
    let ident = field
        .ident
        .as_ref()
        .ok_or_else(|| Error::new(field.span(), "#[derive(Options)] takes a struct with named fields"))?;
    let mut name = field_name(field);
    let mut default = None;
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("option")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("default") {
                default = Some(default_value(&field.ty, &meta.value()?.parse::<Expr>()?)?);
            } else if meta.path.is_ident("name") {
                name = identifier(&meta.value()?.parse::<LitStr>()?, "option name")?;
            } else {
                return Err(meta.error("expected `default = …` or `name = \"…\"`"));
            }
            Ok(())
        })?;
    }
    let wrong = |message: String| Err(Error::new(ident.span(), message));
    if let Err(message) = check_identifier(&name, "option name") {
        return wrong(message);
    }
    if RESERVED.contains(&name.as_str()) {
        return wrong(format!("`{name}` is a setting of the host (every, name, for, max_cpu)"));
    }
    let doc = doc(&field.attrs);
    if doc.is_empty() {
        return wrong("document this option: a doc comment (`///`) says what it does".to_owned());
    }
    Ok(OptionField {
        ident,
        ty: &field.ty,
        name,
        doc,
        default,
    })
}

/// A default as its author writes it, `"10s"`, `"4KiB"`, `"a,b"`, as an expression of the field's type. Durations and sizes
/// are read when the plugin is compiled.
fn default_value(ty: &Type, written: &Expr) -> Result<TokenStream, Error> {
    if type_is(ty, "Option") {
        return Err(Error::new(
            written.span(),
            "an `Option` is an option without a default; take the bare type, or leave the default out",
        ));
    }
    let Expr::Lit(literal) = written else {
        return Ok(quote!(#written));
    };
    let value = match &literal.lit {
        Lit::Str(text) if type_is(ty, "Duration") => {
            quote!(::core::time::Duration::from_nanos(const { ::vwatch_sdk::__private::duration_ns_or_panic(#text) }))
        }
        Lit::Str(text) if type_is(ty, "Bytes") => {
            quote!(::vwatch_sdk::Bytes(const { ::vwatch_sdk::__private::bytes_or_panic(#text) }))
        }
        Lit::Str(text) if type_is(ty, "Vec") => quote!(::vwatch_sdk::__private::list(#text)),
        Lit::Str(text) => quote!(::std::string::String::from(#text)),
        Lit::Int(number) if type_is(ty, "Bytes") => quote!(::vwatch_sdk::Bytes(#number)),
        other => quote!(#other),
    };
    Ok(value)
}
