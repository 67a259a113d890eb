from preprocessing.bottom_up.command.command import main

main()
