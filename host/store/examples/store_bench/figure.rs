//! Figures of a benchmark, each beside its goal and the baseline of the same run, as one aligned table.

use std::fmt::Write;

/// What a figure has to reach, and a second mark beyond.
#[derive(Clone, Copy)]
struct Goal {
    must: f64,
    beyond: Option<f64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Better {
    Lower,
    Higher,
}

pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    better: Better,
    goal: Option<Goal>,
    baseline: Option<f64>,
}

impl Figure {
    pub fn goal(&mut self, must: f64, beyond: Option<f64>) -> &mut Figure {
        self.goal_if(true, must, beyond)
    }

    /// A goal where the measured thing is what the goal is about.
    pub fn goal_if(&mut self, is_meant: bool, must: f64, beyond: Option<f64>) -> &mut Figure {
        self.goal = is_meant.then_some(Goal { must, beyond });
        self
    }

    /// The same figure of the baseline.
    pub fn baseline(&mut self, value: f64) -> &mut Figure {
        self.baseline = Some(value);
        self
    }

    fn reaches(&self, mark: f64) -> bool {
        match self.better {
            Better::Lower => self.value <= mark,
            Better::Higher => self.value >= mark,
        }
    }

    fn cells(&self) -> [String; 5] {
        let sign = match self.better {
            Better::Lower => '≤',
            Better::Higher => '≥',
        };
        let (goal, met) = match self.goal {
            None => (String::new(), ""),
            Some(Goal { must, beyond }) => (
                match beyond {
                    None => format!("{sign} {must}"),
                    Some(beyond) => format!("{sign} {must} [{beyond}]"),
                },
                match (self.reaches(must), beyond.is_some_and(|mark| self.reaches(mark))) {
                    (_, true) => "beyond",
                    (true, _) => "met",
                    (false, _) => "MISSED",
                },
            ),
        };
        let baseline = self.baseline.map_or(String::new(), |baseline| {
            let ratio = match self.better {
                Better::Lower => baseline / self.value,
                Better::Higher => self.value / baseline,
            };
            format!("{} ({}x)", number(baseline), number(ratio))
        });
        [
            self.name.clone(),
            format!("{} {}", number(self.value), self.unit),
            goal,
            met.to_owned(),
            baseline,
        ]
    }
}

/// One table of figures.
pub struct Figures {
    title: String,
    baseline: &'static str,
    all: Vec<Figure>,
}

impl Figures {
    /// `baseline` says what the last column is.
    pub fn new(title: String, baseline: &'static str) -> Figures {
        Figures {
            title,
            baseline,
            all: Vec::new(),
        }
    }

    /// A figure of which less is better.
    pub fn lower(&mut self, name: &str, value: f64, unit: &'static str) -> &mut Figure {
        self.push(name, value, unit, Better::Lower)
    }

    /// A figure of which more is better.
    pub fn higher(&mut self, name: &str, value: f64, unit: &'static str) -> &mut Figure {
        self.push(name, value, unit, Better::Higher)
    }

    fn push(&mut self, name: &str, value: f64, unit: &'static str, better: Better) -> &mut Figure {
        let at = self.all.len();
        self.all.push(Figure {
            name: name.to_owned(),
            value,
            unit,
            better,
            goal: None,
            baseline: None,
        });
        &mut self.all[at]
    }

    pub fn print(&self) {
        let head = ["", "here", "goal", "", self.baseline].map(str::to_owned);
        let lines: Vec<[String; 5]> = std::iter::once(head)
            .chain(self.all.iter().map(Figure::cells))
            .collect();
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        println!("\n{}", self.title);
        for line in &lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(widths) {
                // A String takes every write.
                let _ = write!(text, "{cell:<width$}  ");
            }
            println!("{}", text.trim_end());
        }
    }
}

/// Three figures that count, thousands apart.
pub fn number(value: f64) -> String {
    let places = match value.abs() {
        v if v >= 1000.0 => return count(value as u64),
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.places$}")
}

/// All figures, thousands apart.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
