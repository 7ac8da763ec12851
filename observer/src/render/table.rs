//! Columns of cells. In a pipe each cell is whole; on a terminal the widest ones give way until a
//! row fits in a line.

use std::borrow::Cow;

use tidemill_model::terminal;

use super::columns::{columns as columns_of, cut_end, cut_middle};
use super::screen::{Colour, Screen};

/// Between two columns.
const GAP: usize = 2;

/// What a column may lose on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing.
    Never,
    /// Its end, down to so many of a terminal's columns.
    End(usize),
    /// Its middle, because both ends tell it from others.
    Middle(usize),
}

/// A column.
pub(super) struct Column<'a> {
    name: Cow<'a, str>,
    cut: Cut,
    /// Whether it is left out on a terminal that is too narrow for all.
    spare: bool,
}

/// The text of a row in one column.
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl<'a> Column<'a> {
    pub(super) fn new(name: &'a str, cut: Cut) -> Column<'a> {
        Column { name: terminal::line(name), cut, spare: false }
    }

    /// Makes it one that is left out on a terminal that is too narrow for all.
    pub(super) fn spare(self) -> Column<'a> {
        Column { spare: true, ..self }
    }
}

impl Cell {
    pub(super) fn coloured(text: &str, colour: Option<Colour>) -> Cell {
        Cell { text: terminal::line(text).into_owned(), colour }
    }

    /// Whether it says nothing.
    fn is_empty(&self) -> bool {
        matches!(self.text.as_str(), "" | "-")
    }

    fn width(&self) -> usize {
        columns_of(&self.text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::coloured(&text, None)
    }
}

/// Aligned columns under their names, without spaces at the ends of lines. A terminal does not get
/// the columns in which no row says anything; where there is no room for all others, it does not
/// get the spare ones either, which are left out from the first on.
pub(super) fn table(columns: Vec<Column<'_>>, rows: Vec<Vec<Cell>>, screen: Screen) -> String {
    let Some(room) = screen.width else { return whole_table(&columns, &rows, screen) };
    let says = |place: usize| rows.iter().any(|row| !row[place].is_empty());
    let mut shown: Vec<bool> = (0..columns.len()).map(says).collect();
    let needs = |place: usize| match columns[place].cut {
        Cut::End(floor) | Cut::Middle(floor) => floor.min(widest(&columns, &rows, place)) + GAP,
        Cut::Never => widest(&columns, &rows, place) + GAP,
    };
    for place in (0..columns.len()).filter(|place| columns[*place].spare) {
        let needed: usize = (0..columns.len()).filter(|at| shown[*at]).map(needs).sum();
        if needed > room + GAP {
            shown[place] = false;
        }
    }
    let keep = |place: usize| shown[place];
    let columns: Vec<Column<'_>> = kept(columns, keep);
    let rows: Vec<Vec<Cell>> = rows.into_iter().map(|row| kept(row, keep)).collect();
    whole_table(&columns, &rows, screen)
}

/// As [`table`], with every column.
pub(super) fn whole_table(columns: &[Column<'_>], rows: &[Vec<Cell>], screen: Screen) -> String {
    let widths = widths(columns, rows, screen);
    let names: Vec<Cell> =
        columns.iter().map(|column| Cell { text: column.name.to_string(), colour: None }).collect();
    let mut text = line(columns, &names, &widths, screen);
    for row in rows {
        text += &line(columns, row, &widths, screen);
    }
    text
}

fn kept<T>(items: Vec<T>, keep: impl Fn(usize) -> bool) -> Vec<T> {
    items.into_iter().enumerate().filter(|(at, _)| keep(*at)).map(|(_, item)| item).collect()
}

/// How wide a column is with nothing cut.
fn widest(columns: &[Column<'_>], rows: &[Vec<Cell>], place: usize) -> usize {
    let cells = rows.iter().map(|row| row[place].width());
    cells.chain([columns_of(&columns[place].name)]).max().unwrap_or(0)
}

/// How wide each column is: as its widest cell, or less until the line fits.
fn widths(columns: &[Column<'_>], rows: &[Vec<Cell>], screen: Screen) -> Vec<usize> {
    let mut widths: Vec<usize> =
        (0..columns.len()).map(|place| widest(columns, rows, place)).collect();
    let Some(room) = screen.width else { return widths };
    let gaps = GAP * columns.len().saturating_sub(1);
    loop {
        let over = (widths.iter().sum::<usize>() + gaps).saturating_sub(room);
        let floor = |column: &Column<'_>| match column.cut {
            Cut::Never => None,
            Cut::End(floor) | Cut::Middle(floor) => Some(floor),
        };
        let can_give =
            |place: &usize| floor(&columns[*place]).is_some_and(|it| widths[*place] > it);
        let widest = (0..columns.len()).filter(can_give).max_by_key(|place| widths[*place]);
        match widest {
            Some(place) if over > 0 => widths[place] -= 1,
            _ => return widths,
        }
    }
}

fn line(columns: &[Column<'_>], cells: &[Cell], widths: &[usize], screen: Screen) -> String {
    let mut line = String::new();
    let last = cells.iter().rposition(|cell| !cell.text.is_empty());
    for (place, cell) in cells.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
        let width = widths[place];
        let text = match columns[place].cut {
            Cut::Middle(_) => cut_middle(&cell.text, width),
            Cut::End(_) | Cut::Never => cut_end(&cell.text, width),
        };
        line += &screen.paint(&text, cell.colour);
        if Some(place) != last {
            let pad = width.saturating_sub(columns_of(&text)) + GAP;
            line.extend(std::iter::repeat_n(' ', pad));
        }
    }
    line.truncate(line.trim_end().len());
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(width: Option<usize>, colour: bool) -> String {
        let columns = || {
            vec![
                Column::new("RUN", Cut::Middle(9)),
                Column::new("STATUS", Cut::Never),
                Column::new("PARENT", Cut::Middle(6)),
                Column::new("LABELS", Cut::End(6)),
            ]
        };
        let row = |run: &str, status: &str, colour, labels: &str| {
            let (run, parent, labels) = (run.to_owned(), "-".to_owned(), labels.to_owned());
            vec![run.into(), Cell::coloured(status, colour), parent.into(), labels.into()]
        };
        let rows = vec![
            row("digits.1.2.3.4.5.6.7.8", "completed", Some(Colour::Good), "team=machine-learning"),
            row("r2", "failed", Some(Colour::Bad), ""),
        ];
        table(columns(), rows, Screen { width, colour })
    }

    #[test]
    fn nothing_is_cut_in_a_pipe() {
        let expected = "\
            RUN                     STATUS     PARENT  LABELS\n\
            digits.1.2.3.4.5.6.7.8  completed  -       team=machine-learning\n\
            r2                      failed     -\n";
        assert_eq!(draw(None, false), expected);
    }

    #[test]
    fn a_terminals_line_holds_a_row_and_only_columns_that_say_something() {
        let drawn = draw(Some(40), false);
        assert!(drawn.lines().all(|line| line.chars().count() <= 40), "{drawn}");
        assert!(!drawn.contains("PARENT"), "{drawn}");
        assert!(drawn.contains("…5.6.7.8  completed  team="), "{drawn}");
        let narrow = draw(Some(1), false);
        assert!(narrow.contains("completed"), "the status is never cut: {narrow}");
    }

    #[test]
    fn wide_and_combining_characters_take_the_room_that_they_need() {
        let columns = || vec![Column::new("LABELS", Cut::End(6)), Column::new("都", Cut::Never)];
        let row = |label: &str, city: &str| vec![label.to_owned().into(), city.to_owned().into()];
        let rows = || vec![row("city=東京都", "x"), row("name=Zoe\u{308}", "y")];
        let whole = "\
            LABELS       都\n\
            city=東京都  x\n\
            name=Zoe\u{308}     y\n";
        assert_eq!(table(columns(), rows(), Screen::PIPE), whole);
        let narrow = "\
            LABELS     都\n\
            city=東…   x\n\
            name=Zoe\u{308}   y\n";
        let screen = Screen { width: Some(13), colour: false };
        assert_eq!(table(columns(), rows(), screen), narrow);
    }

    #[test]
    fn a_colour_takes_no_room() {
        let plain = draw(Some(60), false);
        let coloured = draw(Some(60), true);
        assert!(coloured.contains("\u{1b}[1;31mfailed\u{1b}[0m"), "{coloured}");
        let codes = ["\u{1b}[1;31m", "\u{1b}[32m", "\u{1b}[0m"];
        assert_eq!(codes.iter().fold(coloured, |text, code| text.replace(code, "")), plain);
    }
}
