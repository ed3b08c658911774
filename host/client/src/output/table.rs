//! Tables for people.
//!
//! Columns are fitted to the first [`WINDOW`] rows; later rows keep those widths and may stand out. With a width limit
//! (a terminal) text columns are shortened first, the widest most; figures and times never are. What still does not fit is,
//! for a few rows, written one column per line; else the last columns are left out and named in a note. Without a limit
//! nothing is ever cut.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::json::columns;
use super::{OutputError, Sink};

/// Rows that are kept to fit the columns to.
const WINDOW: usize = 4096;
/// No text column is made narrower than this.
const NARROWEST: usize = 12;
/// Where columns have to be left out, those that stay get this much if they need it.
const READABLE: usize = 24;
/// Columns that are left out and named.
const NAMED: usize = 8;
/// With so many rows or fewer, a table that is too wide is written one column per line.
const FEW_ROWS: usize = 3;
const GAP: &str = "  ";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; none where nothing has to fit.
    pub width: Option<usize>,
    pub color: bool,
    /// What stands for NULL.
    pub null: &'static str,
    /// The last column is never shortened, and may run over the terminal's edge: it says why.
    pub last_whole: bool,
}

pub struct Table<W> {
    out: W,
    style: Style,
    names: Vec<String>,
    right: Vec<bool>,
    /// Figures and times, which shortened would be wrong rather than short.
    rigid: Vec<bool>,
    window: Vec<Vec<Option<String>>>,
    /// Set once the window has been written.
    widths: Option<Vec<usize>>,
    notes: Vec<String>,
}

impl<W: Write + Send> Table<W> {
    pub fn new(out: W, style: Style) -> Self {
        Table {
            out,
            style,
            names: Vec::new(),
            right: Vec::new(),
            rigid: Vec::new(),
            window: Vec::new(),
            widths: None,
            notes: Vec::new(),
        }
    }

    /// Decides the widths and writes what was kept.
    fn write_window(&mut self, whole: bool) -> Result<(), OutputError> {
        let rows = std::mem::take(&mut self.window);
        let natural: Vec<usize> = (0..self.names.len()).map(|c| self.natural_width(c, &rows)).collect();
        let mut widths = fit(&natural, &self.rigid, self.style.width);
        if self.style.width.is_some_and(|limit| total(&widths) > limit) {
            if whole && rows.len() <= FEW_ROWS {
                self.widths = Some(Vec::new());
                return self.write_expanded(&rows);
            }
            let shown = shown_columns(&natural, &self.rigid, self.style.width);
            self.notes.push(left_out(&self.names[shown..]));
            widths = fit(&natural[..shown], &self.rigid[..shown], self.style.width);
        }
        let mut line = String::new();
        for (c, width) in widths.iter().enumerate() {
            let gap = if c > 0 { GAP } else { "" };
            let last = c + 1 == widths.len();
            line.push_str(gap);
            let name = if last && !self.right[c] {
                self.names[c].clone()
            } else {
                pad(&self.names[c], *width, self.right[c])
            };
            line.push_str(&self.paint("1", &name));
        }
        line.push('\n');
        self.out.write_all(line.as_bytes())?;
        for row in &rows {
            self.write_row(row, &widths)?;
        }
        self.widths = Some(widths);
        Ok(())
    }

    fn natural_width(&self, column: usize, rows: &[Vec<Option<String>>]) -> usize {
        let cell = |row: &Vec<Option<String>>| row[column].as_deref().unwrap_or(self.style.null).width();
        let widest = match self.style.last_whole && column + 1 == self.names.len() {
            true => 0,
            false => rows.iter().map(cell).max().unwrap_or(0),
        };
        widest.max(self.names[column].width())
    }

    fn write_row(&mut self, row: &[Option<String>], widths: &[usize]) -> Result<(), OutputError> {
        let mut line = String::new();
        for (c, width) in widths.iter().enumerate() {
            line.push_str(if c > 0 { GAP } else { "" });
            let last = c + 1 == widths.len() && !self.right[c];
            let text = row[c].as_deref().unwrap_or(self.style.null);
            let whole = self.style.last_whole && last;
            let text = if self.style.width.is_some() && !whole {
                shorten(text, *width)
            } else {
                text.to_owned()
            };
            let cell = if last { text } else { pad(&text, *width, self.right[c]) };
            match row[c] {
                Some(_) => line.push_str(&cell),
                None => line.push_str(&self.paint("2", &cell)),
            }
        }
        let end = line.trim_end().len();
        line.truncate(end);
        line.push('\n');
        Ok(self.out.write_all(line.as_bytes())?)
    }

    /// One column per line, a blank line between rows.
    fn write_expanded(&mut self, rows: &[Vec<Option<String>>]) -> Result<(), OutputError> {
        let width = self.names.iter().map(|n| n.width()).max().unwrap_or(0);
        let mut text = String::new();
        for (n, row) in rows.iter().enumerate() {
            text.push_str(if n > 0 { "\n" } else { "" });
            for (name, cell) in self.names.iter().zip(row) {
                text.push_str(&self.paint("1", &pad(name, width, false)));
                text.push_str(GAP);
                match cell {
                    Some(cell) => text.push_str(cell),
                    None => text.push_str(&self.paint("2", self.style.null)),
                }
                text.push('\n');
            }
        }
        Ok(self.out.write_all(text.as_bytes())?)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.style.color {
            true if !text.trim().is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

impl<W: Write + Send> Sink for Table<W> {
    fn schema(&mut self, schema: &SchemaRef) -> Result<(), OutputError> {
        for field in schema.fields() {
            let mut name = String::new();
            super::escape_controls(field.name(), &mut name);
            self.names.push(name);
            let kind = field.data_type();
            self.right.push(kind.is_numeric());
            self.rigid
                .push(kind.is_numeric() || kind.is_temporal() || *kind == DataType::Boolean);
        }
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let columns = columns(batch)?;
        for row in 0..batch.num_rows() {
            let cells = columns.iter().map(|cells| {
                let mut text = String::new();
                cells.readable(row, &mut text);
                (!cells.is_null(row)).then_some(text)
            });
            let cells: Vec<Option<String>> = cells.collect();
            match self.widths.clone() {
                Some(widths) => self.write_row(&cells, &widths)?,
                None => self.window.push(cells),
            }
            if self.window.len() == WINDOW {
                self.write_window(false)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<String>, OutputError> {
        if self.widths.is_none() && !self.names.is_empty() {
            self.write_window(true)?;
        }
        self.out.flush()?;
        Ok(std::mem::take(&mut self.notes))
    }
}

fn left_out(names: &[String]) -> String {
    let first = names
        .iter()
        .take(NAMED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match names.len() {
        1 => format!("a column does not fit and is left out: {first}"),
        n @ ..=NAMED => format!("{n} columns do not fit and are left out: {first}"),
        n => format!(
            "{n} columns do not fit and are left out: {first} and {} more",
            n - NAMED
        ),
    }
}

/// Narrows text columns, the widest first, until the table fits or none can give more.
fn fit(natural: &[usize], rigid: &[bool], limit: Option<usize>) -> Vec<usize> {
    let mut widths = natural.to_vec();
    let Some(limit) = limit else {
        return widths;
    };
    loop {
        let excess = total(&widths).saturating_sub(limit);
        let candidates = (0..widths.len()).filter(|&c| !rigid[c] && widths[c] > NARROWEST);
        let Some(widest) = candidates.max_by_key(|&c| widths[c]).filter(|_| excess > 0) else {
            return widths;
        };
        let others = (0..widths.len()).filter(|&c| c != widest && !rigid[c]);
        // Down to the next widest, so that several long columns share the loss.
        let next = others.map(|c| widths[c]).max().unwrap_or(0).max(NARROWEST);
        let give = excess.min(widths[widest].saturating_sub(next).max(1));
        widths[widest] -= give;
    }
}

/// How many of the first columns fit while they can still be read; at least one.
fn shown_columns(natural: &[usize], rigid: &[bool], limit: Option<usize>) -> usize {
    let Some(limit) = limit else {
        return natural.len();
    };
    let readable = natural
        .iter()
        .zip(rigid)
        .map(|(&n, &rigid)| if rigid { n } else { n.min(READABLE) });
    let readable: Vec<usize> = readable.collect();
    let fits = (1..=readable.len()).take_while(|&n| total(&readable[..n]) <= limit);
    fits.last().unwrap_or(1).min(readable.len())
}

fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

/// Cuts `text` to `width` terminal columns, the last of which says so.
pub fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let mut out = String::new();
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used >= width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Fills `text` up to `width` terminal columns, on its left if it is to stand at the right.
pub fn pad(text: &str, width: usize, right: bool) -> String {
    let fill = " ".repeat(width.saturating_sub(text.width()));
    if right { fill + text } else { text.to_owned() + &fill }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_gives_way_to_numbers() {
        let fitted = fit(&[5, 60, 30, 10], &[true, false, false, true], Some(60));
        assert_eq!(total(&fitted), 60);
        assert_eq!((fitted[0], fitted[3]), (5, 10));
        assert!(fitted[1].abs_diff(fitted[2]) <= 1, "{fitted:?}");
        // Nothing can be made narrower: the last columns have to go.
        let fitted = fit(&[30, 30, 30], &[true; 3], Some(70));
        assert_eq!(shown_columns(&fitted, &[true; 3], Some(70)), 2);
        assert_eq!(shown_columns(&[50, 50, 50], &[false; 3], Some(70)), 2);
        assert_eq!(fit(&[500], &[false], None), [500]);
    }

    #[test]
    fn wide_characters_count_double() {
        assert_eq!(shorten("日本語のコマンド", 7), "日本語…");
        assert_eq!(pad("日本", 6, true), "  日本");
        assert_eq!(shorten("short", 5), "short");
    }
}
