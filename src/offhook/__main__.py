from offhook.cli.main import main

main()
