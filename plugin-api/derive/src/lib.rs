//! The derive macros of the vwatchd plugin SDK. Authors use them through `vwatch_sdk`, where each is documented.
//!
//! What they generate is linear in the number of fields and calls functions that the SDK has compiled once, so that a
//! row of 70 columns costs its author no build time.

mod attribute;
mod options;
mod row;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// See `vwatch_sdk::Row`.
#[proc_macro_derive(Row, attributes(row))]
pub fn derive_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    row::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// See `vwatch_sdk::Options`.
#[proc_macro_derive(Options, attributes(option))]
pub fn derive_options(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    options::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
