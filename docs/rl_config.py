"""Write `rl-config.md`, the table of all entries of configurations, from what the code says about them."""

from pathlib import Path

from graphray.rl.reference import page

if __name__ == "__main__":
    Path(__file__).with_name("rl-config.md").write_text(page(), "utf-8")
