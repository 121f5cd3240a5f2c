"""`fusedata recipes`."""

from pathlib import Path

import click


@click.group("recipes", invoke_without_command=True)
@click.pass_context
def recipes_command(context: click.Context) -> None:
    """List the recipes, mixtures and profiles that ship with fusedata."""
    if context.invoked_subcommand:
        return
    from fusedata.cli.show import heading, say, table
    from fusedata.mixture import load_mixture, shipped_mixtures
    from fusedata.profile import load_profile, shipped_profiles
    from fusedata.recipe import load_recipe, shipped_recipes

    recipes = [load_recipe(path) for path in shipped_recipes().values()]
    mixtures = [load_mixture(path) for path in shipped_mixtures().values()]
    profiles = [load_profile(path) for path in shipped_profiles().values()]
    named = (
        ("Recipes: what to build", recipes),
        ("Mixtures: several recipes in one", mixtures),
        ("Profiles: where and how", profiles),
    )
    for title, shipped in named:
        rows = [(entry.name, entry.description) for entry in shipped]
        say(heading(title), table(["", ""], rows, left=range(2), header=False))


@recipes_command.command("copy")
@click.argument("name")
@click.argument("target", type=click.Path(path_type=Path), default=".")
def copy_command(name: str, target: Path) -> None:
    """Copy the recipe or profile NAME to TARGET, a folder or a file, to be edited."""
    from fusedata.errors import ConfigError
    from fusedata.mixture import shipped_mixtures
    from fusedata.profile import shipped_profiles
    from fusedata.recipe import shipped_recipes

    shipped = shipped_recipes() | shipped_mixtures() | shipped_profiles()
    source = shipped.get(name)
    if source is None:
        known = ", ".join(shipped)
        raise ConfigError(f"{name}: no such recipe or profile; there are {known}.")
    path = target / source.name if target.is_dir() else target
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise ConfigError(f"{path}: is there already; name another file, or remove it.") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}).") from error
    click.echo(f"{path}")
