//! The console on a terminal: line editor, history, completion menu.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use reedline::{
    ColumnarMenu, Completer, CompletionResult, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    Span, Suggestion, ValidationResult, Validator, default_emacs_keybindings,
};

use super::complete::{self, Names};
use super::session::{Flow, Session};
use super::statement;
use crate::context::{Context, env};
use crate::failure::{Failed, Outcome, say};
use crate::tables;

const MENU: &str = "completion";
const HISTORY_LINES: usize = 5000;

pub async fn run(context: &Context) -> Result<Outcome, Failed> {
    // Also the first question, so that a console without anybody to talk to does not begin.
    let names = Arc::new(Mutex::new(load_names(context).await?));
    let mut editor = editor(names.clone(), context.color);
    let mut session = Session::new(context, true);
    say("vwatchd console; help for help, \\q to leave\n");
    loop {
        let prompt = Line { at: session.at() };
        let line = editor.read_line(&prompt);
        let text = match line.map_err(|e| Failed::because(format!("cannot read from the terminal: {e}")))? {
            Signal::Success(text) => text,
            Signal::CtrlD => return Ok(Outcome::Done),
            // CtrlC, and what only other set-ups of the editor send: a new line.
            _ => continue,
        };
        for part in statement::split(&text) {
            match session.run(&part).await {
                Ok(Flow::Quit) => return Ok(Outcome::Done),
                Ok(Flow::Cancelled) => break,
                Ok(Flow::Done(_)) => {}
                Err(e) if e.exit_code() == 0 => return Err(e),
                Err(e) => say(&e.render(context.color_errors)),
            }
            // Tables may have come with a plugin.
            if part.starts_with("\\d")
                && let Ok(fresh) = load_names(context).await
                && let Ok(mut names) = names.lock()
            {
                *names = fresh;
            }
        }
    }
}

/// Names for completion. Without them a console is still good.
async fn load_names(context: &Context) -> Result<Names, Failed> {
    match tables::names(context).await {
        Ok((tables, columns)) => Ok(Names { tables, columns }),
        Err(e @ Failed::Sql { .. }) => {
            say(&format!("note: no completion of names: {e}\n"));
            Ok(Names::default())
        }
        Err(e) => Err(e),
    }
}

fn editor(names: Arc<Mutex<Names>>, color: bool) -> Reedline {
    let mut keys = default_emacs_keybindings();
    keys.add_binding(
        KeyModifiers::NONE,
        KeyCode::Tab,
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext]),
    );
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let menu = ColumnarMenu::default().with_name(MENU);
    let editor = Reedline::create()
        .with_completer(Box::new(NameCompleter(names)))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_validator(Box::new(UntilSemicolon))
        .with_partial_completions(true)
        .with_quick_completions(true)
        .with_ansi_colors(color);
    match history() {
        Ok(history) => editor.with_history(Box::new(history)),
        Err(why) => {
            say(&format!("note: no history from session to session: {why}\n"));
            editor
        }
    }
}

/// History in the user's state directory, for their eyes only: questions may quote secrets.
fn history() -> Result<FileBackedHistory, String> {
    let dir: PathBuf = vwatch_model::paths::state_dir(nix::unistd::geteuid().as_raw(), env);
    let file = dir.join("console_history");
    let said = |e: std::io::Error| format!("{}: {e}", file.display());
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(said)?;
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&file)
        .map_err(said)?;
    FileBackedHistory::with_file(HISTORY_LINES, file).map_err(|e| e.to_string())
}

struct UntilSemicolon;

impl Validator for UntilSemicolon {
    fn validate(&self, line: &str) -> ValidationResult {
        match statement::is_complete(line) {
            true => ValidationResult::Complete,
            false => ValidationResult::Incomplete,
        }
    }
}

struct NameCompleter(Arc<Mutex<Names>>);

impl Completer for NameCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let names = self.0.lock().map(|names| names.clone()).unwrap_or_default();
        let (start, words) = complete::complete(&names, line, pos);
        let suggestion = |value: String| Suggestion {
            append_whitespace: !value.starts_with('\\') || value == "\\d",
            value,
            span: Span::new(start, pos.max(start)),
            ..Suggestion::default()
        };
        CompletionResult::fresh(words.into_iter().map(suggestion).collect::<Vec<_>>())
    }
}

/// The prompt, with the moment that is looked at.
struct Line {
    at: Option<String>,
}

impl Prompt for Line {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        match &self.at {
            Some(at) => Cow::Owned(format!("vwatch {at}")),
            None => Cow::Borrowed("vwatch"),
        }
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("   ...> ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "failing ",
        };
        Cow::Owned(format!("({failing}search: {}) ", search.term))
    }
}
