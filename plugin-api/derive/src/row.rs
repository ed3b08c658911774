//! `#[derive(Row)]`: a table from a struct.
//!
//! Generates the descriptor as a constant, the columns appended straight from the rows (one builder per column, no
//! per-row allocation), the reading back, and a struct of the key columns.

use crate::attribute::{check_identifier, collect, doc, field_name, identifier, named_fields, type_is};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, Field, Ident, LitStr, Type, Visibility};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    State,
    Event,
}

struct TableAttributes {
    name: String,
    kind: Kind,
    owner_only: bool,
}

struct Column<'a> {
    ident: &'a Ident,
    vis: &'a Visibility,
    ty: &'a Type,
    name: String,
    doc: String,
    unit: Option<String>,
    key: bool,
    counter: bool,
}

pub fn derive(input: &DeriveInput) -> Result<TokenStream, Error> {
    let fields = named_fields(input, "Row")?;
    let table = table_attributes(input)?;
    let table_doc = doc(&input.attrs);
    let mut errors = Vec::new();
    if table_doc.is_empty() {
        errors.push(Error::new(
            input.ident.span(),
            "document this table: a doc comment (`///`) on the struct says what a row is",
        ));
    }
    let mut columns = Vec::new();
    for field in fields {
        match column(field) {
            Ok(column) => columns.push(column),
            Err(error) => errors.push(error),
        }
    }
    collect(errors)?;
    check_table(input, &table, &columns)?;
    Ok(generate(input, &table, &table_doc, &columns))
}

fn table_attributes(input: &DeriveInput) -> Result<TableAttributes, Error> {
    let (mut name, mut kind, mut owner_only) = (None, None, false);
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("row")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("table") {
                name = Some(identifier(&meta.value()?.parse::<LitStr>()?, "table name")?);
            } else if meta.path.is_ident("state") || meta.path.is_ident("event") {
                if kind.is_some() {
                    return Err(meta.error("a table is either `state` or `event`"));
                }
                kind = Some(if meta.path.is_ident("state") {
                    Kind::State
                } else {
                    Kind::Event
                });
            } else if meta.path.is_ident("access") {
                let word: LitStr = meta.value()?.parse()?;
                owner_only = match word.value().as_str() {
                    "owner" => true,
                    "all" => false,
                    _ => return Err(Error::new(word.span(), "access is \"all\" or \"owner\"")),
                };
            } else {
                return Err(meta.error("expected `table = \"…\"`, `state`, `event` or `access = \"owner\"`"));
            }
            Ok(())
        })?;
    }
    let missing = |what: &str| Error::new(input.ident.span(), what);
    Ok(TableAttributes {
        name: name.ok_or_else(|| missing("name the table: #[row(table = \"my_table\", state)]"))?,
        kind: kind.ok_or_else(|| {
            missing("say what the table is: #[row(table = \"…\", state)] for pictures, #[row(table = \"…\", event)] for events")
        })?,
        owner_only,
    })
}

fn column(field: &Field) -> Result<Column<'_>, Error> {
    let ident = field
        .ident
        .as_ref()
        .ok_or_else(|| Error::new(field.span(), "#[derive(Row)] takes a struct with named fields"))?;
    let mut column = Column {
        ident,
        vis: &field.vis,
        ty: &field.ty,
        name: field_name(field),
        doc: doc(&field.attrs),
        unit: None,
        key: false,
        counter: false,
    };
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("row")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("key") {
                column.key = true;
            } else if meta.path.is_ident("counter") {
                column.counter = true;
            } else if meta.path.is_ident("unit") {
                column.unit = Some(meta.value()?.parse::<LitStr>()?.value());
            } else if meta.path.is_ident("name") {
                column.name = identifier(&meta.value()?.parse::<LitStr>()?, "column name")?;
            } else {
                return Err(meta.error("expected `key`, `counter`, `unit = \"…\"` or `name = \"…\"`"));
            }
            Ok(())
        })?;
    }
    check_identifier(&column.name, "column name").map_err(|message| Error::new(ident.span(), message))?;
    if column.doc.is_empty() {
        return Err(Error::new(
            ident.span(),
            "document this column: a doc comment (`///`) says what it holds",
        ));
    }
    if column.key && type_is(column.ty, "Option") {
        return Err(Error::new(column.ty.span(), "a key column may not be null"));
    }
    if column.key && (type_is(column.ty, "f64") || type_is(column.ty, "f32")) {
        return Err(Error::new(
            column.ty.span(),
            "a key column may not be a floating point number: it has no equality to rely on",
        ));
    }
    Ok(column)
}

/// The rules that every table keeps; the host checks them again.
fn check_table(input: &DeriveInput, table: &TableAttributes, columns: &[Column<'_>]) -> Result<(), Error> {
    let mut errors = Vec::new();
    if columns.is_empty() {
        errors.push(Error::new(input.ident.span(), "a table has at least one column"));
    }
    for (i, column) in columns.iter().enumerate() {
        let mut wrong = |message: &str| errors.push(Error::new(column.ident.span(), message));
        if columns[..i].iter().any(|other| other.name == column.name) {
            wrong("this column is declared twice");
        }
        if column.name == "instance" {
            wrong("`instance` is the host's own column in every table");
        }
        if table.kind == Kind::State && column.name == "time" {
            wrong("`time` is the host's own column in a state table: it is the sample's");
        }
        if table.kind == Kind::Event && column.key {
            wrong("the rows of an event table have no keys");
        }
        if table.owner_only && column.name == "owner_uid" && !type_is(column.ty, "u32") {
            wrong("`owner_uid` is the `u32` uid of the user who may read the row");
        }
    }
    let has_time = columns
        .first()
        .is_some_and(|c| c.name == "time" && type_is(c.ty, "Timestamp"));
    if table.kind == Kind::Event && !has_time {
        errors.push(Error::new(
            input.ident.span(),
            "the first column of an event table is its time: `pub time: Timestamp`",
        ));
    }
    if table.owner_only && !columns.iter().any(|c| c.name == "owner_uid") {
        errors.push(Error::new(
            input.ident.span(),
            "access = \"owner\" needs a column `owner_uid: u32`, the user who may read the row",
        ));
    }
    collect(errors)
}

fn generate(input: &DeriveInput, table: &TableAttributes, table_doc: &str, columns: &[Column<'_>]) -> TokenStream {
    let row = &input.ident;
    let TableAttributes { name, owner_only, .. } = table;
    let (kind, marker) = match table.kind {
        Kind::State => (quote!(State), quote!(StateRow)),
        Kind::Event => (quote!(Event), quote!(EventRow)),
    };
    let descriptors = columns.iter().map(descriptor);
    let idents: Vec<_> = columns.iter().map(|c| c.ident).collect();
    let names = columns.iter().map(|c| &c.name);
    let types: Vec<_> = columns.iter().map(|c| c.ty).collect();
    let build = build_columns(columns);
    let slots: Vec<_> = (0..columns.len()).map(|i| format_ident!("column_{i}")).collect();
    let (key_type, key_value, key_item) = key(input, columns);
    quote! {
        #key_item

        #[automatically_derived]
        impl ::vwatch_sdk::Row for #row {
            type Key = #key_type;
            const TABLE: ::vwatch_sdk::TableDescriptor = ::vwatch_sdk::TableDescriptor {
                name: #name,
                kind: ::vwatch_sdk::TableKind::#kind,
                doc: #table_doc,
                owner_only: #owner_only,
                columns: &[#(#descriptors),*],
            };
            fn key(&self) -> Self::Key {
                #key_value
            }
            fn columns(rows: &[Self]) -> ::std::vec::Vec<::vwatch_sdk::__private::ArrowArray> {
                #build
            }
            fn read(
                batch: &::vwatch_sdk::arrow_array::RecordBatch,
            ) -> ::vwatch_sdk::Result<::std::vec::Vec<Self>> {
                #(let #slots = ::vwatch_sdk::__private::Column::<#types>::of(batch, #names)?;)*
                let mut rows = ::std::vec::Vec::with_capacity(batch.num_rows());
                for at in 0..batch.num_rows() {
                    rows.push(Self { #(#idents: #slots.get(at)),* });
                }
                ::core::result::Result::Ok(rows)
            }
        }

        #[automatically_derived]
        impl ::vwatch_sdk::#marker for #row {}
    }
}

fn descriptor(column: &Column<'_>) -> TokenStream {
    let Column {
        ty,
        name,
        doc,
        key,
        counter,
        ..
    } = column;
    let unit = match &column.unit {
        Some(unit) => quote!(::core::option::Option::Some(#unit)),
        None => quote!(::core::option::Option::None),
    };
    quote! {
        ::vwatch_sdk::ColumnDescriptor {
            name: #name,
            kind: <#ty as ::vwatch_sdk::Cell>::KIND,
            unit: #unit,
            doc: #doc,
            key: #key,
            nullable: <#ty as ::vwatch_sdk::Cell>::NULLABLE,
            counter: #counter,
        }
    }
}

/// One pass over `rows`, one builder per column.
fn build_columns<'a, 'b: 'a>(columns: impl IntoIterator<Item = &'a Column<'b>>) -> TokenStream {
    let columns: Vec<_> = columns.into_iter().collect();
    let builders: Vec<_> = (0..columns.len()).map(|i| format_ident!("builder_{i}")).collect();
    let idents = columns.iter().map(|c| c.ident);
    let types: Vec<_> = columns.iter().map(|c| c.ty).collect();
    quote! {
        #(let mut #builders = <#types as ::vwatch_sdk::Cell>::builder(rows.len());)*
        for row in rows {
            #(<#types as ::vwatch_sdk::Cell>::append(&row.#idents, &mut #builders);)*
        }
        ::std::vec![#(<#types as ::vwatch_sdk::Cell>::finish(#builders)),*]
    }
}

/// The key's type, the expression that takes it from `self`, and the item that declares it.
fn key(input: &DeriveInput, columns: &[Column<'_>]) -> (TokenStream, TokenStream, TokenStream) {
    let keys: Vec<_> = columns.iter().filter(|c| c.key).collect();
    if keys.is_empty() {
        return (
            quote!(::vwatch_sdk::NoKey),
            quote!(::vwatch_sdk::NoKey),
            TokenStream::new(),
        );
    }
    let name = format_ident!("{}Key", input.ident);
    let vis = &input.vis;
    let doc = format!("Key columns of [`{}`].", input.ident);
    let docs = keys.iter().map(|c| &c.doc);
    let field_vis = keys.iter().map(|c| c.vis);
    let idents: Vec<_> = keys.iter().map(|c| c.ident).collect();
    let types = keys.iter().map(|c| c.ty);
    let build = build_columns(keys.iter().copied());
    let item = quote! {
        #[doc = #doc]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #vis struct #name {
            #(#[doc = #docs] #field_vis #idents: #types,)*
        }

        #[automatically_derived]
        impl ::vwatch_sdk::Key for #name {
            fn columns(rows: &[Self]) -> ::std::vec::Vec<::vwatch_sdk::__private::ArrowArray> {
                #build
            }
        }
    };
    let value = quote!(#name { #(#idents: ::core::clone::Clone::clone(&self.#idents)),* });
    (quote!(#name), value, item)
}
