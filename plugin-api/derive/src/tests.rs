//! What the derives say to an author who got something wrong.

use crate::{options, row};
use quote::quote;
use syn::{DeriveInput, Error};

fn messages(result: Result<proc_macro2::TokenStream, Error>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(error) => error.into_iter().map(|e| e.to_string()).collect(),
    }
}

fn check_row(item: proc_macro2::TokenStream, expect: &[&str]) {
    let input: DeriveInput = syn::parse2(item).unwrap();
    assert_eq!(messages(row::derive(&input)), expect);
}

fn check_options(item: proc_macro2::TokenStream, expect: &[&str]) {
    let input: DeriveInput = syn::parse2(item).unwrap();
    assert_eq!(messages(options::derive(&input)), expect);
}

#[test]
fn good_rows() {
    check_row(
        quote! {
            /// A table.
            #[row(table = "t", state, access = "owner")]
            struct T {
                /// The key.
                #[row(key, name = "type")]
                r#type: String,
                /// Whose it is.
                owner_uid: u32,
                /// A counter.
                #[row(unit = "ns", counter)]
                time_ns: Option<i64>,
            }
        },
        &[],
    );
    check_row(
        quote! {
            /// A table.
            #[row(table = "t", event)]
            struct T {
                /// When.
                time: vwatch_sdk::Timestamp,
            }
        },
        &[],
    );
}

#[test]
fn a_table_is_named_and_of_a_kind() {
    check_row(
        quote! {
            /// A table.
            struct T {
                /// A column.
                a: i64,
            }
        },
        &["name the table: #[row(table = \"my_table\", state)]"],
    );
    check_row(
        quote! {
            /// A table.
            #[row(table = "t")]
            struct T {
                /// A column.
                a: i64,
            }
        },
        &["say what the table is: #[row(table = \"…\", state)] for pictures, #[row(table = \"…\", event)] for events"],
    );
    check_row(
        quote! {
            /// A table.
            #[row(table = "My Table", state)]
            struct T {
                /// A column.
                a: i64,
            }
        },
        &["table name \"My Table\" is not of the form [a-z][a-z0-9_]* (at most 64 characters)"],
    );
    check_row(
        quote! {
            /// A table.
            #[row(table = "t", state, event)]
            struct T {
                /// A column.
                a: i64,
            }
        },
        &["a table is either `state` or `event`"],
    );
    check_row(
        quote!(
            enum T {
                A,
            }
        ),
        &["#[derive(Row)] takes a struct with named fields"],
    );
    check_row(
        quote!(
            struct T<A> {
                a: A,
            }
        ),
        &["#[derive(Row)] takes a struct without generic parameters"],
    );
}

#[test]
fn every_undocumented_column_is_told() {
    check_row(
        quote! {
            #[row(table = "t", state)]
            struct T {
                a: i64,
                /// Documented.
                b: i64,
                c: i64,
            }
        },
        &[
            "document this table: a doc comment (`///`) on the struct says what a row is",
            "document this column: a doc comment (`///`) says what it holds",
            "document this column: a doc comment (`///`) says what it holds",
        ],
    );
}

#[test]
fn rules_of_columns() {
    check_row(
        quote! {
            /// A table.
            #[row(table = "t", state)]
            struct T {
                /// A key.
                #[row(key)]
                a: Option<i64>,
                /// A key.
                #[row(key)]
                b: f64,
                /// A name.
                #[row(name = "A")]
                c: i64,
                /// An attribute.
                #[row(units = "ns")]
                d: i64,
            }
        },
        &[
            "a key column may not be null",
            "a key column may not be a floating point number: it has no equality to rely on",
            "column name \"A\" is not of the form [a-z][a-z0-9_]* (at most 64 characters)",
            "expected `key`, `counter`, `unit = \"…\"` or `name = \"…\"`",
        ],
    );
    check_row(
        quote! {
            /// A table.
            #[row(table = "t", state)]
            struct T {
                /// The sample's.
                time: Timestamp,
                /// The host's.
                instance: String,
                /// Once.
                a: i64,
                /// Twice.
                #[row(name = "a")]
                b: i64,
            }
        },
        &[
            "`time` is the host's own column in a state table: it is the sample's",
            "`instance` is the host's own column in every table",
            "this column is declared twice",
        ],
    );
}

#[test]
fn an_event_has_a_time_and_no_keys() {
    check_row(
        quote! {
            /// A table.
            #[row(table = "t", event)]
            struct T {
                /// A key.
                #[row(key)]
                a: i64,
            }
        },
        &[
            "the rows of an event table have no keys",
            "the first column of an event table is its time: `pub time: Timestamp`",
        ],
    );
    check_row(
        quote! {
            /// A table.
            #[row(table = "t", event, access = "owner")]
            struct T {
                /// May be null.
                time: Option<Timestamp>,
            }
        },
        &[
            "the first column of an event table is its time: `pub time: Timestamp`",
            "access = \"owner\" needs a column `owner_uid: u32`, the user who may read the row",
        ],
    );
}

#[test]
fn options_and_their_defaults() {
    check_options(
        quote! {
            struct O {
                /// Given by a person.
                a: Option<i64>,
                /// Or by default.
                #[option(default = "10s", name = "type")]
                b: Duration,
            }
        },
        &[],
    );
    check_options(
        quote! {
            struct O {
                undocumented: i64,
                /// The host's.
                every: Duration,
                /// Both.
                #[option(default = 1)]
                both: Option<i64>,
                /// Once.
                a: i64,
                /// Twice.
                #[option(name = "a")]
                b: i64,
                /// Unknown attribute.
                #[option(optional)]
                c: i64,
            }
        },
        &[
            "document this option: a doc comment (`///`) says what it does",
            "`every` is a setting of the host (every, name, for, max_cpu)",
            "an `Option` is an option without a default; take the bare type, or leave the default out",
            "this option is declared twice",
            "expected `default = …` or `name = \"…\"`",
        ],
    );
}

#[test]
fn doc_comments_keep_their_paragraphs() {
    let input: DeriveInput = syn::parse2(quote! {
        /// One line,
        /// and one more.
        ///
        ///
        /// A paragraph.
        struct T;
    })
    .unwrap();
    assert_eq!(
        crate::attribute::doc(&input.attrs),
        "One line, and one more.\nA paragraph."
    );
}
